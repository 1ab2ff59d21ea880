"""Which cached bodies to give up first.

Owns the order of eviction and the history that it rests on. Knows neither how much room there is nor
which entries are in use: a cache walks :meth:`Policy.victims`, skips what it must keep, and stops when it
has enough.

The policy is S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), with
bytes in place of object counts. Three queues:

- *small*, a tenth of the bytes: where a new key waits to be asked for again;
- *main*: where keys live that were. A key with hits to its credit is spared, once for each hit;
- *ghost*: names of keys that small gave up lately. One that returns goes straight to main.

A scan of images that are each read once therefore only ever flushes the small queue.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import takewhile
from typing import Protocol

from attrs import define, field, frozen

_SMALL_PART = 10  # the small queue is given one part in ten of the bytes
_PROMOTING_HITS = 2  # one more reader may still belong to the same burst as the first
_MOST_HITS = 3  # remembering more would only keep what was popular once


class Policy(Protocol):
    """An order of eviction, told of what happens to the cache's entries.

    A key is inserted once and removed once; the methods raise :exc:`KeyError` for a key that is not there
    (:meth:`insert`: for one that is).
    """

    def insert(self, key: str, size: int, *, hits: int = 0) -> None:
        """``key`` is now cached. ``hits`` are those known from before a restart."""

    def hit(self, key: str) -> None:
        """``key`` was asked for again."""

    def resize(self, key: str, size: int) -> None:
        """``key`` now takes ``size`` bytes."""

    def remove(self, key: str, *, evicted: bool = False) -> None:
        """``key`` is no longer cached; ``evicted`` if that is because it was a victim."""

    def victims(self) -> Iterator[str]:
        """Every key once, the one to give up first in front.

        The order is that of the moment of the call. Taking it changes nothing, may end anywhere, and goes
        on undisturbed by other calls, so that the caller can remove keys as it goes.
        """


@frozen
class _Resident:
    size: int
    hits: int


@define(eq=False)
class _Queue:
    """Residents, the oldest first, and the sum of their sizes."""

    residents: dict[str, _Resident] = field(factory=dict)
    size: int = 0

    def put(self, key: str, resident: _Resident) -> None:
        """Put ``resident`` at the end, or in the place of the one that has its key."""
        before = self.residents.get(key)
        self.size += resident.size - (before.size if before else 0)
        self.residents[key] = resident

    def take(self, key: str) -> _Resident:
        resident = self.residents.pop(key)
        self.size -= resident.size
        return resident

    def copy(self) -> _Queue:
        return _Queue(self.residents.copy(), self.size)


@define(eq=False)
class S3Fifo(Policy):
    """The S3-FIFO :class:`Policy`.

    One departure from the paper: a key moves from small to main at the hit that earns it the move, not when
    it reaches the end of small. So the hits of what waits in small never have to be looked at again.
    """

    ghost_floor: int = 128
    """The ghost queue holds as many names as there are keys, but not fewer than this before it forgets."""

    _small: _Queue = field(factory=_Queue, init=False)
    _main: _Queue = field(factory=_Queue, init=False)
    _ghost: OrderedDict[str, None] = field(factory=OrderedDict, init=False)

    def __contains__(self, key: str) -> bool:
        return key in self._small.residents or key in self._main.residents

    def __len__(self) -> int:
        return len(self._small.residents) + len(self._main.residents)

    @property
    def total(self) -> int:
        """The bytes of all keys."""
        return self._small.size + self._main.size

    @property
    def remembered(self) -> frozenset[str]:
        """The names in the ghost queue."""
        return frozenset(self._ghost)

    def insert(self, key: str, size: int, *, hits: int = 0) -> None:
        """Add ``key`` to small, or to main if small gave it up lately; count ``hits`` as if they came now."""
        if key in self:
            raise KeyError(key)
        returned = key in self._ghost
        self._ghost.pop(key, None)
        # Where that many hits would have brought it, and what would be left of them there.
        promoted = hits >= _PROMOTING_HITS and not returned
        left = hits - _PROMOTING_HITS if promoted else hits
        queue = self._main if returned or promoted else self._small
        queue.put(key, _Resident(size, min(left, _MOST_HITS)))

    def hit(self, key: str) -> None:
        """Count a hit, which in small may be the one that moves the key to main."""
        queue = self._queue_of(key)
        resident = queue.residents[key]
        hits = resident.hits + 1
        if queue is self._small and hits >= _PROMOTING_HITS:
            self._small.take(key)
            self._main.put(key, _Resident(resident.size, hits=0))
        else:
            queue.put(key, _Resident(resident.size, min(hits, _MOST_HITS)))

    def resize(self, key: str, size: int) -> None:
        """Weigh ``key`` anew; neither its place nor its hits change."""
        queue = self._queue_of(key)
        queue.put(key, _Resident(size, queue.residents[key].hits))

    def remove(self, key: str, *, evicted: bool = False) -> None:
        """Forget ``key``, but for its name if small gave it up before anyone asked for it again.

        An eviction from main also settles what sparing others cost them: see :meth:`_spare_until`.
        """
        queue = self._queue_of(key)
        if evicted and queue is self._main:
            self._spare_until(key)
        queue.take(key)
        if evicted and queue is self._small:
            self._ghost[key] = None
        while len(self._ghost) > max(self.ghost_floor, len(self)):
            self._ghost.popitem(last=False)

    def victims(self) -> Iterator[str]:
        """See :meth:`Policy.victims`; what :meth:`remove` settles is played through here without doing it."""
        return _eviction_order(self._small.copy(), self._main.copy())

    def _queue_of(self, key: str) -> _Queue:
        queue = self._small if key in self._small.residents else self._main
        if key not in queue.residents:
            raise KeyError(key)
        return queue

    def _spare_until(self, key: str) -> None:
        """Send what stands before ``key`` in main to its end, for a hit each, until ``key`` has none left.

        What has no hits to pay with was passed over by the cache, being in use, and goes round for nothing.
        """
        residents = self._main.residents
        rounds = residents[key].hits
        if rounds:  # Whole ones, after which everything is in its place again.
            for other, resident in residents.items():
                residents[other] = _Resident(resident.size, max(0, resident.hits - rounds))
        for other in [*takewhile(key.__ne__, residents)]:
            resident = residents.pop(other)
            residents[other] = _Resident(resident.size, max(0, resident.hits - 1))


def _eviction_order(small: _Queue, main: _Queue) -> Iterator[str]:
    # Sparing costs a hit and keeps the order of those spared. So main goes in rounds: first, in order, what
    # has no hits, then what had one, and so on.
    in_small = iter(small.residents.items())
    in_main = (
        item for hits in range(_MOST_HITS + 1) for item in main.residents.items() if item[1].hits == hits
    )
    next_small, next_main = next(in_small, None), next(in_main, None)
    while next_small or next_main:
        small_is_over = small.size * _SMALL_PART >= small.size + main.size
        if next_small and (small_is_over or not next_main):
            key, resident = next_small
            small.size -= resident.size
            next_small = next(in_small, None)
        elif next_main:
            key, resident = next_main
            main.size -= resident.size
            next_main = next(in_main, None)
        yield key
