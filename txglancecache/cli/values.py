"""What a node's answers mean, as values. What an older node leaves out has a default. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

FINISHED = frozenset({"done", "failed", "cancelled"})


@frozen
class Reader:
    """Somebody who is downloading."""

    position: int
    start: int
    stop: int

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Reader:
        return cls(value["position"], value["start"], value["stop"])


@frozen
class Image:
    """An image in the cache. Sizes are in bytes, times in seconds since the epoch."""

    id: str
    size: int
    held: int
    complete: bool
    filling: bool
    pinned: bool
    hits: int
    readers: int
    digest: str
    created: float | None
    last_access: float | None
    sources: int
    rate: float
    extents: tuple[tuple[int, int], ...] = ()
    downloads: tuple[Reader, ...] = ()

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Image:
        return cls(
            id=value["id"],
            size=value["size"],
            held=value["bytes_on_disk"],
            complete=value["complete"],
            filling=value.get("filling", False),
            pinned=value.get("pinned", False),
            hits=value.get("hits", 0),
            readers=value.get("readers", 0),
            digest=value.get("digest") or "",
            created=value.get("created") or None,
            last_access=value.get("last_access") or None,
            sources=value.get("sources", 0),
            rate=value.get("rate") or 0.0,
            extents=tuple((start, stop) for start, stop in value.get("extents", ())),
            downloads=tuple(map(Reader.of, value.get("readers_list", ()))),
        )

    @property
    def state(self) -> str:
        if self.complete:
            return "complete"
        return "filling" if self.filling else "partial"


@frozen
class Job:
    """Something that the node does, or is going to do, in the background."""

    id: int
    kind: str
    image_id: str
    state: str
    priority: int
    size: int | None
    done: int
    rate: float
    eta: float | None
    error: str | None
    started: float | None
    finished: float | None
    next_try: float | None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Job:
        return cls(
            id=value["id"],
            kind=value["kind"],
            image_id=value["image_id"],
            state=value["state"],
            priority=value.get("priority", 0),
            size=value.get("size"),
            done=value.get("done") or 0,
            rate=value.get("rate") or 0.0,
            eta=value.get("eta"),
            error=value.get("error"),
            started=value.get("started"),
            finished=value.get("finished"),
            next_try=value.get("next_try"),
        )

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    @property
    def fraction(self) -> float:
        """How much of it is done, 0 to 1."""
        if self.state == "done":
            return 1.0
        return min(self.done / self.size, 1.0) if self.size else 0.0


@frozen
class Event:
    """Something that happened."""

    serial: int | None
    time: float
    kind: str
    image_id: str
    detail: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Event:
        return cls(
            value.get("serial"),
            value["time"],
            value["kind"],
            value.get("image_id") or "",
            value.get("detail") or "",
        )


@frozen
class QuarantinedFile:
    """A body that failed verification."""

    name: str
    image_id: str
    size: int
    time: float | None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> QuarantinedFile:
        return cls(value["name"], value.get("image_id") or "", value["size"], value.get("time"))


@frozen
class Check:
    """One of the things that a node needs."""

    name: str
    ok: bool
    detail: str


@frozen
class Readiness:
    """Whether a node can do its work."""

    ready: bool
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Readiness:
        return cls(
            value["ready"],
            tuple(Check(name, check["ok"], check["detail"]) for name, check in value["checks"].items()),
        )


@frozen
class Node:
    """A node's state."""

    name: str
    version: str
    uptime: float
    origin: str
    auth: str
    entries: int
    sizes: Mapping[str, int]
    counters: Mapping[str, int]
    queued: int
    running: int

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Node:
        auth, jobs = value.get("auth"), value.get("jobs") or {}
        return cls(
            name=value["node"],
            version=value["version"],
            uptime=value["uptime"],
            origin=value["origin"],
            auth=auth if isinstance(auth, str) else "",
            entries=value["entries"],
            sizes=value["sizes"],
            counters=value["counters"],
            queued=jobs.get("queued", 0),
            running=jobs.get("running", 0),
        )
