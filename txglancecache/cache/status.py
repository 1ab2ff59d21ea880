"""What the cache tells about itself: values for the management site."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, frozen


@frozen
class EntryStatus:
    """One image in the cache. Sizes are in bytes, times in seconds since the epoch (0: never)."""

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


@frozen
class CacheStatus:
    """The whole cache. Sizes are in bytes."""

    entries: int
    bytes_on_disk: int
    reserved: int
    max_size: int
    min_free: int
    disk_free: int
    quarantined: int
    counters: Mapping[str, int]


@frozen
class Event:
    """Something that an operator may want to know of. ``time`` is in seconds since the epoch."""

    time: float
    kind: str
    image_id: str
    detail: str


@define(eq=False)
class Counters:
    """How often what happened since the process started; bytes where the name says so."""

    hits: int = 0
    misses: int = 0
    collapsed: int = 0
    bypassed: int = 0
    denied: int = 0
    bytes_served: int = 0
    bytes_from_origin: int = 0
    transfers: int = 0
    transfers_failed: int = 0
    evictions: int = 0
    purges: int = 0
    verified: int = 0
    verification_failures: int = 0
