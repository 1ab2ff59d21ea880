"""What the cache tells about itself: values for the management site.

Sizes are in bytes, times in seconds since the epoch, rates in bytes per second.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from attrs import define, frozen


@frozen
class ReaderStatus:
    """One response on its way: it is at ``position`` of ``[start, stop)``."""

    position: int
    start: int
    stop: int
    whole: bool


@frozen
class EntryStatus:
    """One image in the cache. ``last_access`` is 0 if there was none.

    ``sources`` counts the clients on whose behalf bytes are being fetched; ``rate`` is how fast they come.
    """

    image_id: str
    size: int
    bytes_on_disk: int
    complete: bool
    digest: str
    hits: int
    created: float
    last_access: float
    readers: int
    pinned: bool
    filling: bool
    extents: tuple[tuple[int, int], ...]
    sources: int = 0
    rate: float = 0.0
    reader_list: tuple[ReaderStatus, ...] = ()


@frozen
class CacheStatus:
    """The whole cache. ``fills`` counts the images of which bytes are being fetched or checked."""

    entries: int
    bytes_on_disk: int
    reserved: int
    max_size: int
    min_free: int
    disk_free: int
    quarantined: int
    counters: Mapping[str, int]
    fills: int = 0


class JobKind(StrEnum):
    """What a job does to its image."""

    PREFETCH = "prefetch"
    VERIFY = "verify"


class JobState(StrEnum):
    """How far a job has come."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@frozen
class JobStatus:
    """One job. ``done`` of ``size`` bytes; ``eta`` is in seconds; ``next_try`` when it waits to try again."""

    id: int
    kind: JobKind
    image_id: str
    state: JobState
    priority: int
    created: float
    started: float | None
    finished: float | None
    attempts: int
    size: int | None
    done: int
    rate: float
    eta: float | None
    error: str | None
    next_try: float | None


@frozen
class QuarantineFile:
    """A body that failed verification. ``image_id`` is ``None`` where the file does not say it."""

    name: str
    image_id: str | None
    size: int
    allocated: int
    time: float


@frozen
class Freed:
    """What a clean-up removed."""

    files: int
    bytes: int


@define(eq=False)
class Counters:
    """How often what happened since the process started; bytes where the name says so.

    ``bytes_served``, of images to clients, are ``bytes_from_disk`` (sent out of files, however long these had
    been there) and ``bytes_passed_through`` (from the origin to one client, and kept nowhere).

    ``bytes_from_origin`` came for files. ``bytes_filled`` of these are in files; the rest had been there
    before and was read past, or is on its way into a file, or was lost with its disk.
    """

    hits: int = 0
    misses: int = 0
    collapsed: int = 0
    bypassed: int = 0
    denied: int = 0
    bytes_served: int = 0
    bytes_from_disk: int = 0
    bytes_passed_through: int = 0
    bytes_from_origin: int = 0
    bytes_filled: int = 0
    transfers: int = 0
    transfers_failed: int = 0
    evictions: int = 0
    purges: int = 0
    verified: int = 0
    verification_failures: int = 0

    def served(self, from_disk: int = 0, passed_through: int = 0) -> None:
        """Bytes of an image were sent to a client."""
        self.bytes_served += from_disk + passed_through
        self.bytes_from_disk += from_disk
        self.bytes_passed_through += passed_through
