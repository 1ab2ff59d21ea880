"""Pages of many images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.unit.management.native.world import PARTIAL, result
from txglancecache.batches import Batches
from txglancecache.cache.status import EntryStatus
from txglancecache.management.native.listing import (
    SORTS,
    Listing,
    MarkerGone,
    Page,
    page_of_images,
)

ENTRIES = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 2), st.booleans(), st.booleans()),
    max_size=30,
    unique_by=lambda entry: entry[0],
).map(
    lambda found: [
        evolve(PARTIAL, image_id=f"n{number}", size=size, hits=size, pinned=pinned, complete=complete)
        for number, size, pinned, complete in found
    ]
)
SORT = st.sampled_from([f"{name}{order}" for name in SORTS for order in ("", ":asc", ":desc")])


def page(entries: list[EntryStatus], listing: Listing) -> Any:
    marker = next((entry for entry in entries if entry.image_id == listing.marker), None)
    return result(Deferred.fromCoroutine(page_of_images(entries, marker, listing, Batches(Clock()))))


@given(
    entries=ENTRIES,
    sort=SORT,
    limit=st.integers(1, 10),
    pinned=st.sampled_from([None, True, False]),
    state=st.sampled_from([None, "complete", "filling"]),
    q=st.sampled_from([None, "1", "N2"]),
)
def test_all_pages(
    entries: list[EntryStatus], sort: str, limit: int, pinned: bool | None, state: str | None, q: str | None
) -> None:
    """All pages together are what was chosen, in order, each once; only the last is not full."""
    listing = Listing(q, state, pinned, sort, limit, None)
    pages: list[Page] = []
    while not pages or pages[-1].more:
        pages.append(page(entries, listing))
        if pages[-1].entries:
            listing = evolve(listing, marker=pages[-1].entries[-1].image_id)
    chosen = [entry for entry in entries if listing.admits(entry)]
    chosen.sort(key=listing.key, reverse=sort.endswith(":desc"))
    assert [entry for part in pages for entry in part.entries] == chosen
    assert all(len(part.entries) == limit for part in pages[:-1])
    assert all(part.total == len(chosen) for part in pages)


def test_marker_that_left() -> None:
    """A marker that is gone is good enough where only ids count."""
    entries = [evolve(PARTIAL, image_id=name) for name in ("a", "b", "d")]
    listing = Listing(None, None, None, "id", 5, "c")
    assert [entry.image_id for entry in page(entries, listing).entries] == ["d"]
    back = evolve(listing, sort="id:desc")
    assert [entry.image_id for entry in page(entries, back).entries] == ["b", "a"]
    with pytest.raises(MarkerGone):
        page(entries, evolve(listing, sort="size")).raiseException()


def turn(clock: Clock) -> None:
    """What is due now; not what is due because of that."""
    calls = list(clock.calls)
    clock.calls.clear()
    for call in calls:
        call.func(*call.args, **call.kw)


def test_turns() -> None:
    """When looking through many takes its time, others have their turn in between."""
    clock = Clock()

    def slow() -> Iterator[EntryStatus]:
        for number in range(1000):
            clock.rightNow += 0.0001
            yield evolve(PARTIAL, image_id=f"{number:03}")

    listing = Listing(None, None, None, "id", 1, None)
    waiting = Deferred.fromCoroutine(page_of_images(slow(), None, listing, Batches(clock)))
    turns = 0
    while not waiting.called:
        turns += 1
        turn(clock)
    assert turns == 5
    assert result(waiting).total == 1000


def test_hundred_thousand() -> None:
    """A page of a hundred thousand images never keeps the reactor for long at a time."""
    clock = Clock()
    clock.seconds = time.perf_counter  # type: ignore[method-assign]
    entries = (evolve(PARTIAL, image_id=f"{number:06}", hits=number % 977) for number in range(100_000))
    listing = Listing(None, None, None, "hits:desc", 1000, None)
    waiting = Deferred.fromCoroutine(page_of_images(entries, None, listing, Batches(clock)))
    taken = []
    while not waiting.called:
        began = time.thread_time()
        turn(clock)
        taken.append(time.thread_time() - began)
    assert result(waiting).total == 100_000
    assert len(taken) > 20
    assert sorted(taken)[len(taken) // 2] < 0.02
