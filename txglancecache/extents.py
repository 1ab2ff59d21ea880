"""Which bytes of a body are on disk: a set of byte intervals, as a value.

Owns the arithmetic of half-open intervals and the text that the index keeps of them. Knows nothing of
files, fills or readers: who adds an extent, and when it may be believed, is decided elsewhere.

Look-ups cost O(log n) and changes O(log n + k) interval operations, for n intervals of which k are met
(a change also copies a tuple of n references), since a reader and a fill do both at every wake-up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cached_property
from operator import itemgetter

from attrs import frozen

_start_of = itemgetter(0)
_stop_of = itemgetter(1)


@frozen
class Extents:
    """An immutable set of bytes, as sorted, disjoint, non-adjacent ``[start, stop)`` intervals.

    Each set of bytes has one representation only, so ``==`` and ``hash`` compare the bytes covered.
    Make one with :meth:`of` or :meth:`decode`; the constructor itself trusts what it is given.
    """

    intervals: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, *pairs: tuple[int, int]) -> Extents:
        """The bytes of all ``pairs``, which may overlap and come in any order; empty ones add nothing.

        :raises ValueError: if a pair is negative or ends before it starts.
        """
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(pairs):
            _check(start, stop)
            if start == stop:
                continue
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
            else:
                merged.append((start, stop))
        return cls(tuple(merged))

    @classmethod
    def decode(cls, text: str) -> Extents:
        """Read what :meth:`encode` wrote.

        :raises ValueError: for anything else. That includes other spellings of a valid set: a row of the
            index that this package did not write is not to be believed in part.
        """
        first, _, last = text.partition("-")
        # Most are one interval, of a whole body, and at the start there are very many of them.
        if last.isdecimal() and first.isdecimal():
            start, stop = int(first), int(last)
            if start < stop and f"{start}-{stop}" == text:
                return cls(((start, stop),))
        pairs = [part.partition("-") for part in (text.split(",") if text else ())]
        extents = cls.of(*((int(start), int(stop)) for start, _, stop in pairs))
        if extents.encode() != text:
            raise ValueError(f"not a canonical set of extents: {text[:80]!r}")
        return extents

    def encode(self) -> str:
        """Compact text such as ``0-100,200-300``; as everywhere here, the second number is exclusive."""
        return ",".join(f"{start}-{stop}" for start, stop in self.intervals)

    @property
    def total(self) -> int:
        """How many bytes are covered."""
        if len(self.intervals) == 1:
            ((start, stop),) = self.intervals
            return stop - start
        return self._total

    @cached_property
    def _total(self) -> int:
        return sum(stop - start for start, stop in self.intervals)

    @property
    def stop(self) -> int:
        """Where the last interval ends; 0 if there is none."""
        return self.intervals[-1][1] if self.intervals else 0

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.intervals)

    def __len__(self) -> int:
        return len(self.intervals)

    def add(self, start: int, stop: int) -> Extents:
        """These bytes and ``[start, stop)``."""
        _check(start, stop)
        if self.covers(start, stop):
            return self
        # Neighbours that only touch are merged too: "stop >= start" and "start <= stop".
        low = bisect_left(self.intervals, start, key=_stop_of)
        high = bisect_right(self.intervals, stop, key=_start_of)
        if low < high:
            start = min(start, self.intervals[low][0])
            stop = max(stop, self.intervals[high - 1][1])
        return Extents((*self.intervals[:low], (start, stop), *self.intervals[high:]))

    def remove(self, start: int, stop: int) -> Extents:
        """These bytes without ``[start, stop)``."""
        low, high = self._met(start, stop)
        if low == high:
            return self
        first, last = self.intervals[low][0], self.intervals[high - 1][1]
        before = ((first, start),) if first < start else ()
        after = ((stop, last),) if stop < last else ()
        return Extents((*self.intervals[:low], *before, *after, *self.intervals[high:]))

    def union(self, other: Extents) -> Extents:
        """The bytes in either."""
        return Extents.of(*self.intervals, *other.intervals)

    def intersection(self, other: Extents) -> Extents:
        """The bytes in both."""
        few, many = sorted((self, other), key=len)
        return Extents(tuple(piece for start, stop in few for piece in many._within(start, stop)))

    def difference(self, other: Extents) -> Extents:
        """The bytes in this set that are not in ``other``."""
        if not self:
            return self
        return self.intersection(other.gaps(self.intervals[0][0], self.intervals[-1][1]))

    def covers(self, start: int, stop: int) -> bool:
        """Is every byte of ``[start, stop)`` there? An empty interval is covered by any set."""
        _check(start, stop)
        return self.reach(start) >= stop

    def reach(self, position: int) -> int:
        """How far one can read on from ``position``: the end of its interval, or itself if it is absent."""
        index = bisect_right(self.intervals, position, key=_start_of) - 1
        return max(position, self.intervals[index][1]) if index >= 0 else position

    def gaps(self, start: int, stop: int) -> Extents:
        """What is absent of ``[start, stop)``."""
        holes: list[tuple[int, int]] = []
        position = start
        for here, there in self._within(start, stop):
            if position < here:
                holes.append((position, here))
            position = there
        if position < stop:
            holes.append((position, stop))
        return Extents(tuple(holes))

    def next_start(self, position: int) -> int | None:
        """Where the first interval begins that begins at or after ``position``."""
        index = bisect_left(self.intervals, position, key=_start_of)
        return self.intervals[index][0] if index < len(self.intervals) else None

    def _met(self, start: int, stop: int) -> tuple[int, int]:
        """The slice of the intervals that share a byte with ``[start, stop)``."""
        _check(start, stop)
        if start == stop:
            return 0, 0
        low = bisect_right(self.intervals, start, key=_stop_of)
        return low, bisect_left(self.intervals, stop, lo=low, key=_start_of)

    def _within(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The intervals that share a byte with ``[start, stop)``, clipped to it."""
        low, high = self._met(start, stop)
        return [(max(start, here), min(stop, there)) for here, there in self.intervals[low:high]]


def _check(start: int, stop: int) -> None:
    if not 0 <= start <= stop:
        raise ValueError(f"not a byte interval: [{start}, {stop})")
