"""Extents against a model: a plain set of byte positions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txglancecache.extents import Extents

LIMIT = 12  # small, so that intervals often overlap and touch

positions = st.integers(0, LIMIT)
intervals = st.tuples(positions, positions).map(lambda pair: (min(pair), max(pair)))
pairs = st.lists(intervals, max_size=8)
extents = pairs.map(lambda some: Extents.of(*some))


def model(some: Extents) -> set[int]:
    return {byte for start, stop in some.intervals for byte in range(start, stop)}


def assert_canonical(some: Extents) -> None:
    assert all(0 <= start < stop for start, stop in some.intervals)
    assert all(stop < start for (_, stop), (start, _) in pairwise(some.intervals))


@given(pairs)
@example([(5, 9), (0, 3), (3, 5)])
def test_of(some: list[tuple[int, int]]) -> None:
    """Pairs in any order, overlapping, touching or empty, make the set of all their bytes."""
    made = Extents.of(*some)
    assert model(made) == {byte for start, stop in some for byte in range(start, stop)}
    assert_canonical(made)


@pytest.mark.parametrize("pair", [(-1, 3), (-3, -1), (4, 3)])
def test_refuses_what_is_no_interval(pair: tuple[int, int]) -> None:
    """Negative and reversed intervals are errors in every operation that takes one."""
    some = Extents.of((0, 10))
    for operation in (Extents.of, lambda it: some.add(*it), lambda it: some.remove(*it)):
        with pytest.raises(ValueError, match="not a byte interval"):
            operation(pair)
    for look in (some.covers, some.gaps):
        with pytest.raises(ValueError, match="not a byte interval"):
            look(*pair)


@given(extents, intervals)
def test_add(some: Extents, interval: tuple[int, int]) -> None:
    """Adding an interval adds its bytes and merges what overlaps or touches."""
    result = some.add(*interval)
    assert model(result) == model(some) | set(range(*interval))
    assert_canonical(result)


@given(extents, intervals)
def test_remove(some: Extents, interval: tuple[int, int]) -> None:
    """Removing an interval removes its bytes, splitting what it falls into."""
    result = some.remove(*interval)
    assert model(result) == model(some) - set(range(*interval))
    assert_canonical(result)


@given(extents, extents)
@example(Extents.of((0, 3)), Extents.of((3, 5)))
@example(Extents.of((3, 5)), Extents.of((0, 3), (5, 9)))
def test_set_operations(one: Extents, other: Extents) -> None:
    """Union, intersection and difference are those of the sets of bytes."""
    for result, expected in (
        (one.union(other), model(one) | model(other)),
        (one.intersection(other), model(one) & model(other)),
        (one.difference(other), model(one) - model(other)),
    ):
        assert model(result) == expected
        assert_canonical(result)


@given(extents, intervals)
def test_covers(some: Extents, interval: tuple[int, int]) -> None:
    """An interval is covered if all its bytes are there; an empty one always is."""
    assert some.covers(*interval) == (set(range(*interval)) <= model(some))


@given(extents, positions)
def test_reach(some: Extents, position: int) -> None:
    """Reach is the first absent byte at or after the position."""
    absent = set(range(position, LIMIT + 1)) - model(some)
    assert some.reach(position) == min(absent)


@given(extents, intervals)
def test_gaps(some: Extents, interval: tuple[int, int]) -> None:
    """Gaps are the absent bytes of an interval."""
    result = some.gaps(*interval)
    assert model(result) == set(range(*interval)) - model(some)
    assert_canonical(result)


@given(extents, positions)
def test_next_start(some: Extents, position: int) -> None:
    """The next start is the first byte, at or after the position, whose predecessor is absent."""
    present = model(some)
    starts = [byte for byte in present if byte >= position and byte - 1 not in present]
    assert some.next_start(position) == min(starts, default=None)


@given(extents)
def test_measures(some: Extents) -> None:
    """Total counts bytes, len counts intervals, iteration gives them, and only the empty set is false."""
    assert some.total == len(model(some))
    assert len(some) == len(some.intervals) == len(list(some))
    assert list(some) == list(some.intervals)
    assert bool(some) == bool(model(some))


@given(pairs)
def test_equality(some: list[tuple[int, int]]) -> None:
    """The same bytes are equal, and hash alike, however they came together."""
    one_by_one = Extents()
    for pair in reversed(some):
        one_by_one = one_by_one.add(*pair)
    assert one_by_one == Extents.of(*some)
    assert hash(one_by_one) == hash(Extents.of(*some))


@given(extents)
def test_encode_and_decode(some: Extents) -> None:
    """What is encoded decodes to the same set."""
    assert Extents.decode(some.encode()) == some


def test_encoding_is_stable() -> None:
    """The text is what existing indexes hold: half-open intervals joined by commas."""
    assert Extents.of((0, 100), (200, 300)).encode() == "0-100,200-300"
    assert Extents().encode() == ""


@pytest.mark.parametrize(
    "text",
    (
        "5|-|5-|-5|a-b|0-5,|,0-5|0-5,,7-9|0--5|0-5-9| 0-5|0-5\n|+0-5|00-5|0_0-5|\u0660-\u0665|0-5;7-9"
        "|5-5|5-3|0-5,5-9|0-5,3-9|7-9,0-5|0-" + "9" * 5000
    ).split("|"),
)
def test_decode_refuses_all_but_its_own_encoding(text: str) -> None:
    """Other spellings, even of a valid set, are errors."""
    with pytest.raises(ValueError):  # noqa: PT011  (int() words some of them)
        Extents.decode(text)


@given(st.text(alphabet="0123456789-,", max_size=12))
def test_decode_never_reinterprets(text: str) -> None:
    """A text that decodes is exactly the text that its set encodes to."""
    try:
        some = Extents.decode(text)
    except ValueError:
        return
    assert some.encode() == text


def test_is_immutable() -> None:
    """Operations leave the set they start from as it was."""
    some = Extents.of((0, 10), (20, 30))
    some.add(5, 25)
    some.remove(5, 25)
    assert some == Extents.of((0, 10), (20, 30))
    with pytest.raises(AttributeError):
        some.intervals = ()  # type: ignore[misc]  # that it is refused is the point
