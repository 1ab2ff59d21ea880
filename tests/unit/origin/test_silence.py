"""Peers that say nothing."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from txglancecache.origin.silence import Silence


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def expired() -> list[str]:
    return []


@pytest.fixture
def silence(clock: Clock, expired: list[str]) -> Silence:
    """Ten seconds of silence, or five bytes a second."""
    return Silence(clock, 10, 5, lambda _: expired.append("expired"))


def test_expires_after_the_limit(clock: Clock, silence: Silence, expired: list[str]) -> None:
    """Ten seconds on end, and once."""
    silence.listen()
    clock.advance(9.9)
    assert expired == []
    clock.advance(0.2)
    clock.advance(100)
    assert expired == ["expired"]
    assert clock.getDelayedCalls() == []


def test_hearing_something_begins_anew(clock: Clock, silence: Silence, expired: list[str]) -> None:
    """Silence counts from the last byte."""
    silence.listen()
    clock.advance(9)
    silence.heard(100)
    clock.advance(9)
    assert expired == []
    clock.advance(1.1)
    assert expired == ["expired"]


def test_listening_twice_is_listening_once(clock: Clock, silence: Silence, expired: list[str]) -> None:
    """A second call does not put it off."""
    silence.listen()
    clock.advance(9)
    silence.listen()
    clock.advance(1)
    assert expired == ["expired"]


def test_silence_that_does_not_count(clock: Clock, silence: Silence, expired: list[str]) -> None:
    """Ignored for any time, then counted from the next listen."""
    silence.listen()
    clock.advance(5)
    silence.ignore()
    silence.heard(100)
    clock.advance(60)
    silence.listen()
    clock.advance(9)
    assert expired == []
    clock.advance(1)
    assert expired == ["expired"]


def test_stopped(clock: Clock, silence: Silence, expired: list[str]) -> None:
    """Leaves nothing behind in the reactor."""
    silence.stop()
    silence.listen()
    silence.stop()
    assert clock.getDelayedCalls() == []
    assert expired == []


def test_what_came_while_the_process_stood_still(clock: Clock, silence: Silence, expired: list[str]) -> None:
    """A peer that spoke while this process was stopped is heard before its time is taken to be up."""
    silence.listen()
    clock.rightNow += 1000
    clock.callLater(0, silence.heard, 100)  # the turn of the reactor in which the socket is read
    clock.advance(0)
    assert expired == []
    clock.advance(9)
    assert expired == []
    clock.advance(1)
    assert expired == ["expired"]


def test_a_slow_drip(clock: Clock, silence: Silence, expired: list[str]) -> None:
    """A peer that always says something, and never much, is given up as well."""
    silence.listen()
    for _ in range(10):
        silence.heard(5)
        clock.advance(1)
    assert expired == []
    for _ in range(9):
        silence.heard(4)
        clock.advance(1)
    assert expired == []
    silence.heard(4)
    clock.advance(1)
    assert expired == ["expired"]


def test_beginning_anew(clock: Clock, silence: Silence, expired: list[str]) -> None:
    """Forgives silence and slowness alike."""
    silence.listen()
    clock.advance(9)
    silence.heard(100)
    silence.begin_anew()
    clock.advance(9)
    silence.heard(100)
    clock.advance(9)
    assert expired == []
