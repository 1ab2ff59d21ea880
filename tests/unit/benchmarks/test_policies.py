"""The policies that the product's is compared with, against models too simple to be wrong."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.policies import FORESIGHT, POLICIES, Fifo, Lfu, Lru, Policy, Sieve, hit_ratio
from benchmarks.traces import Request, Trace

_CAPACITY = 4


class _List:
    """Keys in a list; a model says which goes."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.counts: dict[str, int] = {}
        self.visited: dict[str, bool] = {}
        self.hand = 0

    def insert(self, key: str) -> None:
        self.order.append(key)
        self.counts[key], self.visited[key] = 1, False

    def drop(self, key: str) -> str:
        self.order.remove(key)
        return key


class _FifoModel(_List):
    def hit(self, key: str) -> None:
        pass

    def evict(self) -> str:
        return self.drop(self.order[0])


class _LruModel(_FifoModel):
    def hit(self, key: str) -> None:
        self.order.append(self.drop(key))


class _LfuModel(_LruModel):
    def hit(self, key: str) -> None:
        super().hit(key)
        self.counts[key] += 1

    def evict(self) -> str:
        return self.drop(min(self.order, key=lambda key: self.counts[key]))


class _SieveModel(_FifoModel):
    def hit(self, key: str) -> None:
        self.visited[key] = True

    def evict(self) -> str:
        while True:
            self.hand %= len(self.order)
            key = self.order[self.hand]
            if not self.visited[key]:
                return self.drop(key)
            self.visited[key] = False
            self.hand += 1


def _evicted(policy: object, requests: list[str], tell: Callable[[str], None]) -> Iterator[str]:
    cached: set[str] = set()
    for key in requests:
        if key in cached:
            policy.hit(key)  # type: ignore[attr-defined]
            continue
        if len(cached) == _CAPACITY:
            gone = policy.evict()  # type: ignore[attr-defined]
            cached.remove(gone)
            yield gone
        cached.add(key)
        tell(key)


_MODELS: list[tuple[Callable[[], Policy], Callable[[], _List]]] = [
    (Fifo, _FifoModel),
    (Lru, _LruModel),
    (Lfu, _LfuModel),
    (Sieve, _SieveModel),
]


@given(requests=st.lists(st.sampled_from("abcdefgh"), max_size=80))
def test_each_gives_up_what_its_model_does(requests: list[str]) -> None:
    """Key by key, whatever is asked for."""
    for policy, model in _MODELS:
        tested, simple = policy(), model()
        expected = [*_evicted(simple, requests, simple.insert)]
        assert [*_evicted(tested, requests, lambda key: tested.insert(key, 1))] == expected, policy  # noqa: B023


@given(requests=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), capacity=st.integers(1, 8))
def test_nobody_beats_foresight(requests: list[str], capacity: int) -> None:
    """Where all sizes are equal it is the best there is; and no policy loses count of what is cached."""
    trace = Trace("t", [Request(key, 1) for key in requests])
    best = hit_ratio(trace, POLICIES[FORESIGHT](trace), capacity)
    for make in POLICIES.values():
        assert hit_ratio(trace, make(trace), capacity) <= best


@pytest.mark.parametrize("policy", POLICIES)
def test_hits_are_counted_by_bytes(policy: str) -> None:
    """What was cached comes from the cache; what is larger than the cache never does."""
    trace = Trace("t", [Request("a", 10), Request("a", 10), Request("huge", 100), Request("huge", 100)])
    assert hit_ratio(trace, POLICIES[policy](trace), 50) == 10 / 220


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cache_that_holds_everything_misses_once(policy: str) -> None:
    trace = Trace("t", [Request(key, 5) for key in "abcabcabc"])
    assert hit_ratio(trace, POLICIES[policy](trace), 15) == pytest.approx(2 / 3)
