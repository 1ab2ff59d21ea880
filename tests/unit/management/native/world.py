"""The native API over an in-memory HTTP exchange, with a cache and a queue that do as they are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, evolve, field
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txglancecache.cache.events import EventLog
from txglancecache.cache.status import (
    CacheStatus,
    EntryStatus,
    Freed,
    JobKind,
    JobState,
    JobStatus,
    QuarantineFile,
    ReaderStatus,
)
from txglancecache.headers import RawHeaders
from txglancecache.image import Image
from txglancecache.management.access.guard import Guard
from txglancecache.management.managed import NodeFacts
from txglancecache.management.native.api import NativeAPI
from txglancecache.management.native.health import Check, Doctor, room_check
from txglancecache.management.native.prefetching import Permission
from txglancecache.management.native.streams import Streams
from txglancecache.management.site import management_resource
from txglancecache.origin.framing import Head
from txglancecache.origin.glance import Answer, Denied, Uncacheable

PARTIAL = EntryStatus(
    image_id="6f1c",
    size=1000,
    bytes_on_disk=300,
    complete=False,
    digest="sha512:abcd",
    hits=3,
    created=1700000000.5,
    last_access=1700000001.5,
    readers=1,
    pinned=False,
    filling=True,
    extents=((0, 200), (900, 1000)),
    sources=2,
    rate=123.456,
    reader_list=(ReaderStatus(150, 0, 1000, True),),
)
WHOLE = evolve(
    PARTIAL,
    image_id="a1b2",
    complete=True,
    filling=False,
    bytes_on_disk=1000,
    extents=((0, 1000),),
    digest="sha512:ef01",
    last_access=0.0,
    pinned=True,
    hits=7,
)
STATUS = CacheStatus(
    entries=2,
    bytes_on_disk=600,
    reserved=1400,
    max_size=10_000,
    min_free=10,
    disk_free=5_000,
    quarantined=1,
    counters={"hits": 3, "misses": 1},
    fills=1,
)
DAMAGED = QuarantineFile("6f1c-1", None, 1000, 1024, 1700000002.0)
DESCRIBED = Image("6f1c", 1000, "sha512", "ab" * 64, None)


@define(eq=False)
class FakeCache:
    """Some entries, and what became of them."""

    images: dict[str, EntryStatus] = field(factory=lambda: {e.image_id: e for e in (PARTIAL, WHOLE)})
    events: EventLog = field(factory=lambda: EventLog(lambda: 1700000002.0, "5e0c94d1"))
    now: CacheStatus = STATUS
    trouble: Exception | None = None
    pending: Deferred[None] | None = None
    targets: list[int | None] = field(factory=list)

    def status(self) -> CacheStatus:
        if self.trouble is not None:
            raise self.trouble
        return self.now

    def entries(self) -> list[EntryStatus]:
        return list(self.images.values())

    def entry(self, image_id: str) -> EntryStatus | None:
        return self.images.get(image_id)

    async def purge(self, image_id: str) -> bool:
        if self.pending is not None:
            await self.pending
        if self.trouble is not None:
            raise self.trouble
        return self.images.pop(image_id, None) is not None

    async def purge_all(self) -> int:
        return await self.purge_many(list(self.images))

    async def purge_many(self, image_ids: Sequence[str]) -> int:
        return sum([await self.purge(image_id) for image_id in image_ids])

    def pin(self, image_id: str) -> bool:
        return self._set_pinned(image_id, True)

    def unpin(self, image_id: str) -> bool:
        return self._set_pinned(image_id, False)

    def _set_pinned(self, image_id: str, pinned: bool) -> bool:
        if image_id in self.images:
            self.images[image_id] = evolve(self.images[image_id], pinned=pinned)
        return image_id in self.images

    async def prune(self, target: int | None = None) -> Freed:
        self.targets.append(target)
        return Freed(2, 700)

    async def clean(self) -> Freed:
        return Freed(1, 300)

    async def quarantined(self) -> list[QuarantineFile]:
        return [DAMAGED]

    async def clear_quarantine(self) -> Freed:
        return Freed(1, 1024)


@define(eq=False)
class FakeJobs:
    """A queue that nobody works on."""

    all: dict[int, JobStatus] = field(factory=dict)
    headers: list[RawHeaders | None] = field(factory=list)

    def submit(
        self,
        kind: JobKind,
        image_ids: Sequence[str],
        *,
        priority: int = 0,
        headers: RawHeaders | None = None,
    ) -> list[JobStatus]:
        self.headers.append(headers)
        jobs = [job_of(len(self.all) + 1 + n, kind, name, priority) for n, name in enumerate(image_ids)]
        self.all |= {job.id: job for job in jobs}
        return jobs

    def jobs(
        self,
        *,
        state: JobState | None = None,
        kind: JobKind | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[JobStatus]:
        chosen = [job for job in self.all.values() if state in (None, job.state) and kind in (None, job.kind)]
        return [job for job in chosen if job.id > after][:limit]

    def count(self, *, state: JobState | None = None, kind: JobKind | None = None) -> int:
        return len(self.jobs(state=state, kind=kind))

    def job(self, job_id: int) -> JobStatus | None:
        return self.all.get(job_id)

    def cancel(self, job_id: int) -> bool:
        if self.all[job_id].state.over:
            return False
        self.all[job_id] = evolve(self.all[job_id], state=JobState.CANCELLED)
        return True

    def unfinished(self, kind: JobKind) -> list[str]:
        return [job.image_id for job in self.jobs(kind=kind) if not job.state.over]

    def cancel_image(self, kind: JobKind, image_id: str) -> bool:
        return any(self.cancel(job.id) for job in self.jobs(kind=kind) if job.image_id == image_id)

    async def cancel_all(self, *, kind: JobKind | None = None, queued_only: bool = False) -> int:
        state = JobState.QUEUED if queued_only else None
        return sum(self.cancel(job.id) for job in self.jobs(state=state, kind=kind))


def job_of(number: int, kind: JobKind, image_id: str, priority: int = 0) -> JobStatus:
    """A job that has just been queued."""
    return JobStatus(
        id=number,
        kind=kind,
        image_id=image_id,
        state=JobState.QUEUED,
        priority=priority,
        created=1700000003.0,
        started=None,
        finished=None,
        attempts=0,
        size=None,
        done=0,
        rate=0.0,
        eta=None,
        error=None,
        next_try=None,
    )


@define(eq=False)
class FakeCatalog:
    """What the origin says of an image, by its id."""

    said: dict[bytes, Image | Uncacheable | Denied | Exception] = field(factory=dict)
    asked: list[tuple[bytes, RawHeaders]] = field(factory=list)

    async def identify(self, target: bytes, headers: RawHeaders) -> Image | Uncacheable | Denied:
        self.asked.append((target, headers))
        answer = self.said.get(target.rpartition(b"/")[2], DESCRIBED)
        if isinstance(answer, Exception):
            raise answer
        return answer


def denied(status: int, *fields: tuple[bytes, bytes]) -> Denied:
    """The origin's refusal."""
    return Denied(Answer(Head(status, b"No", fields), b""))


async def passed() -> str:
    return "fine"


@define(eq=False)
class Site:
    """The management site of one node with nothing but the native API, and a client of it."""

    cache: FakeCache = field(factory=FakeCache)
    jobs: FakeJobs = field(factory=FakeJobs)
    catalog: FakeCatalog = field(factory=FakeCatalog)
    clock: Clock = field(factory=Clock)
    checks: dict[str, Check] = field(factory=lambda: {"origin": passed, "disk": passed})
    exposition: Callable[[str], tuple[bytes, str]] = lambda accept: (accept.encode(), "text/plain")
    streams: Streams = field(init=False)
    native: NativeAPI = field(init=False)
    treq: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.checks["room"] = room_check(self.cache.status)
        self.streams = Streams(self.cache.events, self.clock, most=2)
        self.native = NativeAPI(
            NodeFacts("node1", "1.2", "http://glance:9292", self.clock.seconds()),
            self.cache,
            self.jobs,
            Permission(self.catalog, b"glance:9292"),
            Doctor(self.checks, self.clock),
            self.streams,
            self.exposition,
            self.clock,
        )
        stub_treq: Any = StubTreq
        self.treq = stub_treq(management_resource(self.native.resource(), Guard()))

    def ask(self, method: str, path: str, body: object = None, **fields: str) -> tuple[Any, Any]:
        """The response, and its body as JSON (None for no body)."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        response = result(
            self.treq.request(method, "http://localhost:9394" + path, headers=headers, data=data)
        )
        content = result(self.treq.content(response))
        assert response.headers.getRawHeaders("Cache-Control") == ["no-store"]
        assert response.headers.getRawHeaders("X-Content-Type-Options") == ["nosniff"]
        if not content:
            return response, None
        assert response.headers.getRawHeaders("Content-Type") == ["application/json"]
        assert response.length == len(content)
        return response, json.loads(content)

    def got(self, path: str, **fields: str) -> Any:
        """What a GET that works gives."""
        response, body = self.ask("GET", path, **fields)
        assert response.code == 200, body
        return body

    def refused(
        self, code: int, title: str, method: str, path: str, body: object = None, **fields: str
    ) -> Any:
        """Ask for an error; its response, and its message."""
        response, answer = self.ask(method, path, body, **fields)
        assert response.code == code, answer
        assert set(answer) == {"error"}
        assert set(answer["error"]) == {"code", "title", "message"}
        assert (answer["error"]["code"], answer["error"]["title"]) == (code, title)
        return response, answer["error"]["message"]


def result(deferred: Deferred[Any]) -> Any:
    """What an answered request came to; it must have been answered."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, results.append)
    assert results, "not answered yet"
    return results[0]
