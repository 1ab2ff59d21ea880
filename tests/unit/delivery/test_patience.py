"""Clients that take nothing."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from txglancecache.delivery.patience import Patience


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lost() -> list[str]:
    return []


@pytest.fixture
def patience(clock: Clock, lost: list[str]) -> Patience:
    return Patience(10, clock, lambda: lost.append("lost"))


def test_ends_after_a_while(clock: Clock, patience: Patience, lost: list[str]) -> None:
    """Ten seconds after the client last took something, and once."""
    patience.renew()
    clock.advance(9)
    patience.renew()
    clock.advance(9)
    assert lost == []
    clock.advance(1)
    assert lost == ["lost"]
    assert clock.getDelayedCalls() == []


def test_ended(clock: Clock, patience: Patience, lost: list[str]) -> None:
    """Nobody is given up after the end."""
    patience.renew()
    patience.end()
    clock.advance(100)
    assert lost == []


def test_the_process_stood_still(clock: Clock, patience: Patience, lost: list[str]) -> None:
    """A client that could not take anything because this process was stopped is not given up for it."""
    patience.renew()
    clock.rightNow += 1000
    clock.callLater(0, patience.renew)  # the turn of the reactor in which the client takes something
    clock.advance(0)
    assert lost == []
    clock.advance(10)
    assert lost == ["lost"]
