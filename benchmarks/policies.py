"""Policies of eviction to set beside the product's own, and what each makes of a trace.

The least of an interface: what is cached is told, one key at a time is given up. None of them looks at sizes;
those matter to what they are given.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import define, field

from benchmarks.traces import Trace
from txglancecache.eviction import S3Fifo


class Policy(Protocol):
    """An order of eviction."""

    def insert(self, key: str, size: int) -> None:
        """The key is cached from now on."""

    def hit(self, key: str) -> None:
        """It was asked for again."""

    def evict(self) -> str:
        """Take the key out that is to be given up next."""


@define(eq=False)
class Own(Policy):
    """The product's policy, asked as the product asks it."""

    _policy: S3Fifo = field(factory=S3Fifo)

    def insert(self, key: str, size: int) -> None:
        self._policy.insert(key, size)

    def hit(self, key: str) -> None:
        self._policy.hit(key)

    def evict(self) -> str:
        key = next(self._policy.victims())
        self._policy.remove(key, evicted=True)
        return key


@define(eq=False)
class Fifo(Policy):
    """The oldest."""

    _keys: OrderedDict[str, None] = field(factory=OrderedDict)

    def insert(self, key: str, size: int) -> None:
        self._keys[key] = None

    def hit(self, key: str) -> None:
        pass

    def evict(self) -> str:
        return self._keys.popitem(last=False)[0]


@define(eq=False)
class Lru(Fifo):
    """What was not asked for the longest."""

    def hit(self, key: str) -> None:
        self._keys.move_to_end(key)


@define(eq=False)
class Lfu(Policy):
    """What was asked for least often while it was cached; of those, the longest ago."""

    _counts: dict[str, int] = field(factory=dict)
    _buckets: dict[int, OrderedDict[str, None]] = field(factory=dict)

    def insert(self, key: str, size: int) -> None:
        self._put(key, 1)

    def hit(self, key: str) -> None:
        count = self._counts[key]
        self._drop(key, count)
        self._put(key, count + 1)

    def evict(self) -> str:
        count = min(self._buckets)
        key = next(iter(self._buckets[count]))
        self._drop(key, count)
        del self._counts[key]
        return key

    def _put(self, key: str, count: int) -> None:
        self._counts[key] = count
        self._buckets.setdefault(count, OrderedDict())[key] = None

    def _drop(self, key: str, count: int) -> None:
        bucket = self._buckets[count]
        del bucket[key]
        if not bucket:
            del self._buckets[count]


@define(eq=False)
class Sieve(Policy):
    """SIEVE (Zhang et al., NSDI 2024): a queue that nobody is moved in, and a hand that goes from its oldest
    key to its newest and around again, sparing once what was asked for since it came by."""

    _visited: OrderedDict[str, bool] = field(factory=OrderedDict)
    _newer: dict[str, str | None] = field(factory=dict)
    _older: dict[str, str | None] = field(factory=dict)
    _newest: str | None = None
    _oldest: str | None = None
    _hand: str | None = None

    def insert(self, key: str, size: int) -> None:
        self._visited[key] = False
        self._older[key], self._newer[key] = self._newest, None
        if self._newest is None:
            self._oldest = key
        else:
            self._newer[self._newest] = key
        self._newest = key

    def hit(self, key: str) -> None:
        self._visited[key] = True

    def evict(self) -> str:
        key = self._hand or self._oldest
        if key is None:
            raise KeyError("nothing to evict")
        while self._visited[key]:
            self._visited[key] = False
            key = self._newer[key] or self._oldest
            assert key is not None
        older, newer = self._older.pop(key), self._newer.pop(key)
        if older is None:
            self._oldest = newer
        else:
            self._newer[older] = newer
        if newer is None:
            self._newest = older
        else:
            self._older[newer] = older
        self._hand = newer
        del self._visited[key]
        return key


@define(eq=False)
class Foresight(Policy):
    """What will not be asked for the longest, or never again. Nobody can do this; it shows how much there is
    to be had."""

    _future: Mapping[str, deque[int]]
    _next: dict[str, int] = field(factory=dict)
    _farthest: list[tuple[int, str]] = field(factory=list)

    @classmethod
    def of(cls, trace: Trace) -> "Foresight":
        future: dict[str, deque[int]] = {}
        for moment, request in enumerate(trace.requests):
            future.setdefault(request.image, deque()).append(moment)
        return cls(future)

    def insert(self, key: str, size: int) -> None:
        self.hit(key)

    def hit(self, key: str) -> None:
        ahead = self._future[key]
        ahead.popleft()
        self._next[key] = moment = ahead[0] if ahead else 1 << 60
        heapq.heappush(self._farthest, (-moment, key))

    def evict(self) -> str:
        while True:
            moment, key = heapq.heappop(self._farthest)
            if self._next.get(key) == -moment:  # else it has been asked for since
                del self._next[key]
                return key


OWN, FORESIGHT = "S3-FIFO", "with foresight"
POLICIES: Mapping[str, Callable[[Trace], Policy]] = {
    OWN: lambda trace: Own(),
    "LRU": lambda trace: Lru(),
    "FIFO": lambda trace: Fifo(),
    "LFU": lambda trace: Lfu(),
    "SIEVE": lambda trace: Sieve(),
    FORESIGHT: Foresight.of,
}


def hit_ratio(trace: Trace, policy: Policy, capacity: int) -> float:
    """The part of the bytes of all requests that a cache of so many bytes has, from 0 to 1.

    An image that is larger than the cache is passed through, as the product does.
    """
    cached: dict[str, int] = {}
    used = hits = 0
    for request in trace.requests:
        if request.image in cached:
            hits += request.size
            policy.hit(request.image)
        elif request.size <= capacity:
            while used + request.size > capacity:
                used -= cached.pop(policy.evict())
            cached[request.image] = request.size
            used += request.size
            policy.insert(request.image, request.size)
    return hits / trace.size
