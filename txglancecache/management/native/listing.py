"""Choosing, sorting and paging: a page of the images, without holding the reactor up.

However many there are, no more than a few milliseconds go by before something else has its turn, and only
what is on the page is converted.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from attrs import define, field, frozen

from txglancecache.batches import Batches
from txglancecache.cache.status import EntryStatus
from txglancecache.management.native.schema import state_of

_Key = tuple[Any, ...]

SORTS: Mapping[str, Callable[[EntryStatus], float | str]] = {
    "id": lambda entry: "",
    "size": lambda entry: entry.size,
    "bytes_on_disk": lambda entry: entry.bytes_on_disk,
    "hits": lambda entry: entry.hits,
    "created": lambda entry: entry.created,
    "last_access": lambda entry: entry.last_access,
    "readers": lambda entry: entry.readers,
    "rate": lambda entry: entry.rate,
}


class MarkerGone(Exception):
    """The marker is not in the cache any more, and without it nobody knows where the next page begins."""


@frozen
class Listing:
    """Which images to list, and how."""

    q: str | None
    state: str | None
    pinned: bool | None
    sort: str
    limit: int
    marker: str | None

    @property
    def descending(self) -> bool:
        return self.sort.endswith(":desc")

    def key(self, entry: EntryStatus) -> _Key:
        """What the entry is sorted by; no two have the same."""
        return SORTS[self.sort.partition(":")[0]](entry), entry.image_id

    def admits(self, entry: EntryStatus) -> bool:
        if self.q is not None:
            sought = self.q.lower()
            if sought not in entry.image_id.lower() and sought not in entry.digest:
                return False
        return self.pinned in (None, entry.pinned) and self.state in (None, state_of(entry))

    def after(self, last: str) -> str:
        """The query of the page that begins after the image ``last``."""
        said = {"q": self.q, "state": self.state, "sort": self.sort, "limit": self.limit, "marker": last}
        if self.pinned is not None:
            said["pinned"] = "true" if self.pinned else "false"
        return urlencode({name: value for name, value in said.items() if value is not None})


@frozen
class Page:
    """Some of the images that there are."""

    entries: Sequence[EntryStatus]
    total: int
    more: bool


@define(eq=False)
class _Collector:
    """Keeps the first ``limit`` + 1 after the marker of what it is shown, and counts what fits."""

    _listing: Listing
    _marker: _Key | None
    total: int = field(default=0, init=False)
    first: list[tuple[_Key, EntryStatus]] = field(factory=list, init=False)

    def look_at(self, entries: list[EntryStatus]) -> None:
        listing, marker = self._listing, self._marker
        fitting = [(listing.key(entry), entry) for entry in entries if listing.admits(entry)]
        self.total += len(fitting)
        if marker is not None:
            fitting = [
                pair for pair in fitting if (pair[0] < marker if listing.descending else pair[0] > marker)
            ]
        best = heapq.nlargest if listing.descending else heapq.nsmallest
        self.first = best(listing.limit + 1, [*self.first, *fitting], key=lambda pair: pair[0])


async def page_of_images(
    entries: Iterable[EntryStatus], marker: EntryStatus | None, listing: Listing, batches: Batches
) -> Page:
    """The page that ``listing`` asks for.

    :param marker: the entry that the listing's marker names, if it is there.
    :raises MarkerGone: it is not, and the order depends on more than its id.
    """
    key: _Key | None = None
    if marker is not None:
        key = listing.key(marker)
    elif listing.marker is not None:
        if not listing.sort.startswith("id"):
            raise MarkerGone
        key = "", listing.marker
    collector = _Collector(listing, key)
    await batches.each(entries, collector.look_at)
    found = [entry for _, entry in collector.first]
    return Page(found[: listing.limit], collector.total, len(found) > listing.limit)
