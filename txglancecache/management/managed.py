"""What the management site stands on: the cache, the queue of jobs, the origin's word about images.

Protocols only, so that neither this site nor its tests need the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from attrs import frozen

from txglancecache.cache.events import Event
from txglancecache.cache.status import (
    CacheStatus,
    EntryStatus,
    Freed,
    JobKind,
    JobState,
    JobStatus,
    QuarantineFile,
)
from txglancecache.headers import RawHeaders
from txglancecache.image import Image
from txglancecache.origin.glance import Denied, Uncacheable


class ManagedEvents(Protocol):
    """The latest events, and the next ones."""

    def recent(self) -> tuple[Event, ...]: ...

    def last_id(self) -> str: ...

    def after(self, event_id: str) -> tuple[Event, ...]: ...

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]: ...


class ManagedCache(Protocol):
    """What this site needs of the cache."""

    @property
    def events(self) -> ManagedEvents: ...

    def status(self) -> CacheStatus: ...

    def entries(self) -> Iterable[EntryStatus]: ...

    def entry(self, image_id: str) -> EntryStatus | None: ...

    async def purge(self, image_id: str) -> bool: ...

    async def purge_all(self) -> int: ...

    async def purge_many(self, image_ids: Sequence[str]) -> int: ...

    def pin(self, image_id: str) -> bool: ...

    def unpin(self, image_id: str) -> bool: ...

    async def prune(self, target: int | None = None) -> Freed: ...

    async def clean(self) -> Freed: ...

    async def quarantined(self) -> list[QuarantineFile]: ...

    async def clear_quarantine(self) -> Freed: ...


class ManagedJobs(Protocol):
    """What this site needs of the queue."""

    def submit(
        self,
        kind: JobKind,
        image_ids: Sequence[str],
        *,
        priority: int = 0,
        headers: RawHeaders | None = None,
    ) -> list[JobStatus]: ...

    def jobs(
        self,
        *,
        state: JobState | None = None,
        kind: JobKind | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[JobStatus]: ...

    def unfinished(self, kind: JobKind) -> list[str]: ...

    def count(self, *, state: JobState | None = None, kind: JobKind | None = None) -> int: ...

    def job(self, job_id: int) -> JobStatus | None: ...

    def cancel(self, job_id: int) -> bool: ...

    def cancel_image(self, kind: JobKind, image_id: str) -> bool: ...

    async def cancel_all(self, *, kind: JobKind | None = None, queued_only: bool = False) -> int: ...


class Catalog(Protocol):
    """Who can say what an image is: the origin."""

    async def identify(self, target: bytes, headers: RawHeaders) -> Image | Uncacheable | Denied: ...


@frozen
class NodeFacts:
    """Which process this is, and how it knows its operators. ``started`` is a reading of the site's clock."""

    name: str
    version: str
    origin: str
    started: float
    auth: str = "none"
