"""When a fill tries again."""

from itertools import pairwise

import pytest
from twisted.internet.task import Clock

from txglancecache.cache.retries import Retries
from txglancecache.errors import OriginError, OriginOverloaded

BROKEN = OriginError("it broke")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tries() -> list[str]:
    return []


@pytest.fixture
def retries(clock: Clock, tries: list[str]) -> Retries:
    return Retries(2, clock, lambda: tries.append("again"))


def fail(retries: Retries, clock: Clock) -> bool:
    """One failure, and the try that comes of it."""
    if not retries.bears_failure():
        return False
    clock.advance(retries.schedule(BROKEN))
    return True


def test_limit(retries: Retries, clock: Clock) -> None:
    """So many failures in a row; any that works begins anew."""
    assert [fail(retries, clock) for _ in range(4)] == [True, True, False, False]
    retries.worked()
    assert [fail(retries, clock) for _ in range(3)] == [True, True, False]
    retries.forget()
    assert fail(retries, clock)


def test_what_breaks_together_is_one_failure(retries: Retries, clock: Clock, tries: list[str]) -> None:
    for _ in range(10):
        assert retries.bears_failure()
        retries.schedule(BROKEN)
    clock.advance(1)
    assert tries == ["again"]
    assert not retries.pending


def test_delays_grow(clock: Clock) -> None:
    retries = Retries(20, clock, lambda: None)
    delays = []
    for _ in range(12):
        assert retries.bears_failure()
        delays.append(retries.schedule(BROKEN))
        clock.advance(delays[-1])
    assert delays[0] <= 0.24
    assert all(after / before >= 2 * 0.8 / 1.2 for before, after in pairwise(delays[:5]))
    assert max(delays) <= 6


@pytest.mark.parametrize(("asked", "given"), [(12.0, 12.0), (3600.0, 30.0)])
def test_overloaded(retries: Retries, asked: float, given: float) -> None:
    """It is left alone for as long as it asks, within reason."""
    assert retries.bears_failure()
    assert retries.schedule(OriginOverloaded(503, retry_after=asked)) == given


def test_misfits(retries: Retries) -> None:
    """Two answers in a row that do not fit are one too many."""
    assert retries.bears_misfit()
    assert not retries.bears_misfit()
    retries.fitted()
    assert retries.bears_misfit()


def test_cancel(retries: Retries, clock: Clock, tries: list[str]) -> None:
    retries.schedule(BROKEN)
    assert retries.pending
    retries.cancel()
    clock.advance(10)
    assert (retries.pending, tries, clock.getDelayedCalls()) == (False, [], [])
