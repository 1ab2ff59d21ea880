"""Which transfers are begun: examples, and properties against a set of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from txglancecache.cache.plan import PATIENCE, Claim, Start, plan
from txglancecache.extents import Extents

SIZE = 64 << 20
_places = st.integers(0, 64).map(lambda n: n << 20)
_intervals = st.tuples(_places, _places).map(lambda pair: (min(pair), max(pair)))


def test_a_cold_body_is_one_transfer() -> None:
    """Any number of demands for the whole of an empty body make one transfer."""
    assert plan(Extents(), [], [(0, SIZE)] * 16, size=SIZE, ranged=True) == [Start(0, SIZE)]


def test_what_is_about_to_come_is_waited_for() -> None:
    """A byte a little ahead of a running transfer starts nothing."""
    running = [Claim(0, SIZE)]
    assert plan(Extents(), running, [(PATIENCE, SIZE)], size=SIZE, ranged=True) == []


def test_a_byte_far_ahead_splits_the_running_transfer() -> None:
    """It gets a transfer of its own, up to the end of the demand, and the other is to stop there."""
    starts = plan(Extents(), [Claim(0, SIZE)], [(PATIENCE + 1, SIZE // 2)], size=SIZE, ranged=True)
    assert starts == [Start(PATIENCE + 1, SIZE // 2, split=0)]


def test_a_byte_far_ahead_splits_what_is_only_about_to_begin() -> None:
    """Demands that come together are met together; what is behind the split is left for later."""
    starts = plan(Extents(), [], [(0, SIZE), (SIZE // 2, SIZE // 2 + 1)], size=SIZE, ranged=True)
    assert starts == [Start(0, SIZE // 2), Start(SIZE // 2, SIZE // 2 + 1)]


def test_without_ranges_there_is_one_transfer_from_the_start() -> None:
    """Whatever is missing, only the whole body can be asked for, and only once at a time."""
    on_disk = Extents.of((0, 100))
    assert plan(on_disk, [], [(50, 200)], size=SIZE, ranged=False) == [Start(0, SIZE)]
    assert plan(on_disk, [Claim(0, SIZE)], [(50, 200)], size=SIZE, ranged=False) == []
    assert plan(on_disk, [], [(50, 100)], size=SIZE, ranged=False) == []


def _disjoint(intervals: list[tuple[int, int]], on_disk: Extents) -> list[Claim]:
    taken = on_disk
    claims = []
    for start, stop in intervals:
        if start < stop and not taken.intersection(Extents.of((start, stop))):
            claims.append(Claim(start, stop))
            taken = taken.add(start, stop)
    return claims


@given(
    st.lists(_intervals, max_size=6),
    st.lists(_intervals, max_size=4),
    st.lists(_intervals, max_size=6),
    st.integers(1, 6),
)
def test_no_byte_is_fetched_twice_and_none_is_forgotten(
    on_disk: list[tuple[int, int]],
    running: list[tuple[int, int]],
    demands: list[tuple[int, int]],
    limit: int,
) -> None:
    """New transfers bring only bytes that are wanted and that nobody brings; with room, all demands move."""
    extents = Extents.of(*on_disk)
    claims = _disjoint(running, extents)
    starts = plan(extents, claims, demands, size=SIZE, ranged=True, limit=limit)
    assert len(starts) + len(claims) <= max(limit, len(claims))
    left = dict(enumerate(claims))
    for start in starts:
        if start.split is not None:
            left[start.split] = Claim(left[start.split].position, start.start)
    brought = extents
    spans = [(c.position, c.stop) for c in left.values()] + [(s.start, s.stop) for s in starts]
    for start, stop in spans:
        assert start <= stop
        assert not brought.intersection(Extents.of((start, stop)))
        brought = brought.add(start, stop)
    for start in starts:
        assert any(first <= start.start < start.stop <= stop for first, stop in demands)
    if len(starts) + len(claims) < limit:
        for start, stop in demands:
            missing = next(iter(extents.gaps(start, stop)), None)
            assert missing is None or brought.covers(missing[0], missing[0] + 1)
