"""S3-FIFO: its order against the algorithm played out move by move, and what it is chosen for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from itertools import islice

import pytest
from attrs import Factory, define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from txglancecache.eviction import Policy, S3Fifo


@define
class Waiting:
    key: str
    size: int
    hits: int = 0


@define
class Reference:
    """The algorithm, literally: queues are lists, and each eviction moves what it passes."""

    ghost_floor: int
    small: list[Waiting] = Factory(list)
    main: list[Waiting] = Factory(list)
    ghost: list[str] = Factory(list)

    def find(self, key: str) -> Waiting:
        return next(each for each in self.small + self.main if each.key == key)

    def insert(self, key: str, size: int) -> None:
        (self.main if key in self.ghost else self.small).append(Waiting(key, size))
        self.ghost = [name for name in self.ghost if name != key]

    def hit(self, key: str) -> None:
        found = self.find(key)
        found.hits = min(found.hits + 1, 3)
        if found in self.small and found.hits == 2:
            self.small.remove(found)
            self.main.append(Waiting(key, found.size))

    def remove(self, key: str) -> None:
        self.small = [each for each in self.small if each.key != key]
        self.main = [each for each in self.main if each.key != key]
        self.forget()

    def forget(self) -> None:
        excess = len(self.ghost) - max(self.ghost_floor, len(self.small + self.main))
        del self.ghost[: max(0, excess)]

    def evict(self, key: str | None = None) -> str:
        """Evict ``key``, all that comes before it being in use, or else what comes first."""
        small, everything = (sum(each.size for each in some) for some in (self.small, self.small + self.main))
        if key is None:
            from_small = bool(self.small) and (10 * small >= everything or not self.main)
        else:
            from_small = self.find(key) in self.small
        if from_small:
            chosen = self.small[0] if key is None else self.find(key)
            self.small.remove(chosen)
            self.ghost.append(chosen.key)
        else:
            while True:
                chosen = self.main.pop(0)
                if chosen.hits == 0 and key in (None, chosen.key):
                    break
                chosen.hits = max(0, chosen.hits - 1)
                self.main.append(chosen)
        self.forget()
        return chosen.key

    def order(self) -> list[str]:
        played = deepcopy(self)
        return [played.evict() for _ in self.small + self.main]


class EvictionMachine(RuleBasedStateMachine):
    """Any course of events, beside the literal algorithm."""

    keys = st.sampled_from([f"image-{number}" for number in range(12)])
    sizes = st.one_of(st.integers(0, 12), st.sampled_from([100, 1000]))

    def __init__(self) -> None:
        super().__init__()
        self.policy = S3Fifo(ghost_floor=3)
        self.reference = Reference(ghost_floor=3)
        self.cached: dict[str, int] = {}

    @rule(key=keys, size=sizes, hits=st.integers(0, 7))
    def insert_or_hit(self, key: str, size: int, hits: int) -> None:
        if key in self.cached:
            self.policy.hit(key)
            self.reference.hit(key)
        else:
            self.policy.insert(key, size, hits=hits)
            self.reference.insert(key, size)
            for _ in range(hits):
                self.reference.hit(key)
            self.cached[key] = size

    @precondition(lambda self: self.cached)
    @rule(data=st.data(), times=st.integers(1, 5))
    def hit(self, data: st.DataObject, times: int) -> None:
        key = self.some_key(data)
        for _ in range(times):
            self.policy.hit(key)
            self.reference.hit(key)

    @precondition(lambda self: self.cached)
    @rule(data=st.data(), size=sizes)
    def resize(self, data: st.DataObject, size: int) -> None:
        key = self.some_key(data)
        self.policy.resize(key, size)
        self.reference.find(key).size = self.cached[key] = size

    @precondition(lambda self: self.cached)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = self.some_key(data)
        self.policy.remove(key)
        self.reference.remove(key)
        del self.cached[key]

    @precondition(lambda self: self.cached)
    @rule()
    def evict_the_first(self) -> None:
        key = next(self.policy.victims())
        assert self.reference.evict() == key
        self.policy.remove(key, evicted=True)
        del self.cached[key]

    @precondition(lambda self: self.cached)
    @rule(data=st.data())
    def evict_past_what_is_in_use(self, data: st.DataObject) -> None:
        key = self.some_key(data)
        self.policy.remove(key, evicted=True)
        self.reference.evict(key)
        del self.cached[key]

    def some_key(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.cached)))

    @invariant()
    def yields_every_key_once_in_the_order_of_the_algorithm(self) -> None:
        order = list(self.policy.victims())
        assert sorted(order) == sorted(self.cached)
        assert order == self.reference.order()

    @invariant()
    def looking_changes_nothing(self) -> None:
        before = list(self.policy.victims())
        list(islice(self.policy.victims(), len(before) // 2))
        assert list(self.policy.victims()) == before

    @invariant()
    def counts_every_byte_and_key(self) -> None:
        assert self.policy.total == sum(self.cached.values())
        assert len(self.policy) == len(self.cached)
        assert all(key in self.policy for key in self.cached)

    @invariant()
    def remembers_a_bounded_number_of_names(self) -> None:
        assert len(self.policy.remembered) <= max(3, len(self.cached))
        assert self.policy.remembered == set(self.reference.ghost)
        assert self.policy.remembered.isdisjoint(self.cached)


TestEvictionMachine = EvictionMachine.TestCase
TestEvictionMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@define
class LeastRecentlyUsed(Policy):
    """What S3-FIFO is measured against."""

    order: OrderedDict[str, int] = field(factory=OrderedDict)

    def insert(self, key: str, size: int, *, hits: int = 0) -> None:
        self.order[key] = size

    def hit(self, key: str) -> None:
        self.order.move_to_end(key)

    def resize(self, key: str, size: int) -> None:
        self.order[key] = size

    def remove(self, key: str, *, evicted: bool = False) -> None:
        del self.order[key]

    def victims(self) -> Iterator[str]:
        return iter(list(self.order))


@define
class Cache:
    """As much of a cache as a policy needs."""

    policy: Policy
    capacity: int
    in_use: frozenset[str] = frozenset()
    sizes: dict[str, int] = Factory(dict)

    def ask(self, key: str, size: int) -> bool:
        """Was it a hit?"""
        if key in self.sizes:
            self.policy.hit(key)
            return True
        victims = self.policy.victims()
        while sum(self.sizes.values()) + size > self.capacity:
            victim = next(victims)
            if victim not in self.in_use:
                self.policy.remove(victim, evicted=True)
                del self.sizes[victim]
        self.policy.insert(key, size)
        self.sizes[key] = size
        return False

    def warm_up(self, keys: list[str], size: int, rounds: int = 4) -> None:
        for _ in range(rounds):
            for key in keys:
                self.ask(key, size)

    def held(self, keys: list[str]) -> list[str]:
        return [key for key in keys if key in self.sizes]


HOT = [f"hot-{number}" for number in range(8)]


@pytest.mark.parametrize("size", [1, 10, 40])
@pytest.mark.parametrize("asked_for", [1, 2])
def test_a_hot_set_survives_a_scan(size: int, asked_for: int) -> None:
    """Images asked for again and again outlive any number of others, large or small, that are not."""
    kept = {}
    for policy in (S3Fifo(), LeastRecentlyUsed()):
        cache = Cache(policy, capacity=100)
        cache.warm_up(HOT[:6], size=10)
        for number in range(1000):
            for _ in range(asked_for):
                cache.ask(f"scan-{number}", size)
        kept[type(policy)] = cache.held(HOT[:6])
    assert kept == {S3Fifo: HOT[:6], LeastRecentlyUsed: []}


def test_a_full_cache_gives_a_scan_a_tenth() -> None:
    """Where the hot set fills the cache, a scan gets the small queue's share of the bytes and no more."""
    hot = [f"hot-{number}" for number in range(100)]
    cache = Cache(S3Fifo(), capacity=100)
    cache.warm_up(hot, size=1)
    for number in range(1000):
        cache.ask(f"scan-{number}", 1)
    assert len(cache.held(hot)) == 90


def test_a_new_hot_set_takes_over() -> None:
    """What was hot once does not stay for ever: hits are paid with, and are not remembered beyond three."""
    cache = Cache(S3Fifo(), capacity=80)
    cache.warm_up(HOT, size=10, rounds=1000)
    new = [f"new-{number}" for number in range(7)]
    cache.warm_up(new, size=10, rounds=40)
    assert cache.held(new) == new


def test_a_key_that_returns_goes_to_main() -> None:
    """A key that small gave up, and that is asked for again soon, is not given up to a scan a second time."""
    cache = Cache(S3Fifo(), capacity=100)
    cache.warm_up(HOT[:4], size=10)
    cache.ask("returning", 10)
    for number in range(20):
        cache.ask(f"scan-{number}", 10)
    assert not cache.held(["returning"])
    cache.ask("returning", 10)
    for number in range(20, 100):
        cache.ask(f"scan-{number}", 10)
    assert cache.held(["returning"])


def test_what_is_in_use_is_passed_over() -> None:
    """Keys that the cache skips stay, others go in their place, and the walk goes on as keys are removed."""
    cache = Cache(S3Fifo(), capacity=100, in_use=frozenset({"image-0", "image-2"}))
    for number in range(10):
        cache.ask(f"image-{number}", 10)
    cache.ask("large", 70)
    assert sorted(cache.sizes) == ["image-0", "image-2", "image-9", "large"]


def test_an_order_taken_earlier_is_undisturbed() -> None:
    """A walk that has begun goes on with the order of its beginning, whatever is called meanwhile."""
    policy = S3Fifo()
    for number in range(6):
        policy.insert(f"image-{number}", 1, hits=number)
    order = list(policy.victims())
    walk = policy.victims()
    seen = [next(walk)]
    policy.remove(order[1])
    policy.hit(order[2])
    policy.resize(order[3], 100)
    policy.insert("new", 1)
    assert seen + list(walk) == order


def test_hits_from_before_a_restart() -> None:
    """A key inserted with hits is where it would be had they come one by one."""
    for hits in range(10):
        at_once, one_by_one = S3Fifo(), S3Fifo()
        for policy in (at_once, one_by_one):
            for number in range(5):
                policy.insert(f"image-{number}", 10, hits=number)
        at_once.insert("known", 10, hits=hits)
        one_by_one.insert("known", 10)
        for _ in range(hits):
            one_by_one.hit("known")
        assert list(at_once.victims()) == list(one_by_one.victims())


def test_the_memory_of_names_grows_with_the_cache() -> None:
    """By default at least 128 names are remembered, more if there are more keys; the oldest goes first."""
    policy = S3Fifo()
    for number in range(200):
        policy.insert(f"gone-{number}", 1)
        policy.remove(f"gone-{number}", evicted=True)
    assert policy.remembered == {f"gone-{number}" for number in range(72, 200)}
    for number in range(150):
        policy.insert(f"here-{number}", 1)
    for number in range(200, 300):
        policy.insert(f"gone-{number}", 1)
        policy.remove(f"gone-{number}", evicted=True)
    assert policy.remembered == {f"gone-{number}" for number in range(150, 300)}


def test_only_evictions_are_remembered() -> None:
    """A key that was deleted, or that main gave up, is new when it comes again."""
    policy = S3Fifo()
    policy.insert("deleted", 1)
    policy.remove("deleted")
    policy.insert("promoted", 1, hits=2)
    policy.remove("promoted", evicted=True)
    assert policy.remembered == frozenset()


def test_misuse_is_an_error() -> None:
    """A key is inserted once and must be there for everything else."""
    policy = S3Fifo()
    policy.insert("image", 1)
    with pytest.raises(KeyError, match="image"):
        policy.insert("image", 2)
    assert policy.total == 1
    for call in (policy.hit, policy.remove, lambda key: policy.resize(key, 1)):
        with pytest.raises(KeyError, match="other"):
            call("other")
