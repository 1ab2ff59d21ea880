"""Waiting for one's turn."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from txglancecache.waiting import Outcome, Semaphore, Signal, to_the_end


def _started(work: Coroutine[Any, Any, None]) -> Deferred[None]:
    return Deferred.fromCoroutine(work)


def test_one_at_a_time() -> None:
    """They have it one after the other, in the order in which they came."""
    lock, told, going = Semaphore(), [], [Deferred[None]() for _ in range(3)]

    async def hold(number: int) -> None:
        async with lock:
            told.append(f"{number} has it")
            await going[number]
            told.append(f"{number} is done")

    for number in range(3):
        _started(hold(number))
    assert told == ["0 has it"]
    for each in going:
        each.callback(None)
    assert told == [f"{number} {what}" for number in range(3) for what in ("has it", "is done")]


def test_places() -> None:
    """As many as there are places, and the next when one of them is given back."""
    semaphore = Semaphore(places=2)
    waiting = [semaphore.acquire() for _ in range(4)]
    assert [each.called for each in waiting] == [True, True, False, False]
    semaphore.release()
    assert [each.called for each in waiting] == [True, True, True, False]


def test_a_crowd_that_holds_it_for_a_moment() -> None:
    """Many more than there may be calls within calls: each has its turn, and so has who comes afterwards."""
    lock, first, served = Semaphore(), Deferred[None](), []

    async def hold(number: int) -> None:
        async with lock:
            if not number:
                await first
            served.append(number)

    crowd = [_started(hold(number)) for number in range(5000)]
    first.callback(None)
    assert all(each.called for each in crowd)
    _started(hold(5000))
    assert served == [*range(5001)]


def test_who_leaves_the_line() -> None:
    """Whoever is cancelled while waiting is not called, and keeps nobody else from being called."""
    lock, told = Semaphore(), []

    async def hold(name: str, going: Deferred[None]) -> None:
        async with lock:
            told.append(name)
            await going

    going, gone = Deferred[None](), Deferred[None]()
    _started(hold("first", going))
    leaver, last = _started(hold("leaver", gone)), _started(hold("last", gone))
    leaver.cancel()
    leaver.addErrback(lambda failure: failure.trap(CancelledError))
    going.callback(None)
    assert told == ["first", "last"]
    last.cancel()
    last.addErrback(lambda failure: failure.trap(CancelledError))
    _started(hold("another", gone))
    assert told == ["first", "last", "another"]


def test_what_fails_gives_its_place_back() -> None:
    """An error inside is the holder's own affair."""
    lock, told = Semaphore(), []

    async def fail() -> None:
        async with lock:
            raise ValueError

    async def hold() -> None:
        async with lock:
            told.append("held")

    failed = _started(fail())
    _started(hold())
    assert told == ["held"]
    failed.addErrback(lambda failure: failure.trap(ValueError))


@pytest.mark.parametrize("kind", [Signal, Outcome])
def test_a_waiter_that_is_cancelled_by_another(kind: type[Signal] | type[Outcome[None]]) -> None:
    """Keeps nobody behind it from being told."""
    work: Deferred[None] = Deferred()
    source = Signal() if kind is Signal else Outcome.of(work)
    told: list[str] = []
    first, second, third = source.wait(), source.wait(), source.wait()
    first.addCallback(lambda _: second.cancel())
    second.addErrback(lambda failure: told.append(str(failure.check(CancelledError) is not None)))
    third.addCallback(lambda _: told.append("third"))
    if isinstance(source, Signal):
        source.fire()
    else:
        work.callback(None)
    assert told == ["True", "third"]


def test_the_end_of_what_nobody_wants_any_more() -> None:
    """Who was cancelled stays cancelled, whatever becomes of the work."""
    work: Deferred[None] = Deferred()
    waiting = Deferred.fromCoroutine(to_the_end(work))
    waiting.cancel()
    failed: list[object] = []
    waiting.addErrback(lambda failure: failed.append(failure.type))
    assert failed == []
    work.errback(ValueError())
    assert failed == [CancelledError]
