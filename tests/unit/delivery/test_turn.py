"""How transfers share the reactor's turns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import define
from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock

from txglancecache.delivery.turn import SHARE, Turn

_FITTING = (4 << 20) // SHARE  # shares that one turn has room for


class Turns(Clock):
    """As on a reactor, what is called for during a turn has to wait for the next, which takes a second."""

    def callLater(
        self, delay: float, what: Callable[..., object], *args: object, **kw: object
    ) -> DelayedCall:
        return super().callLater(delay + 1, what, *args, **kw)


@define(eq=False)
class Client:
    """Takes ``shares`` shares, and says so in ``log``."""

    name: str
    shares: int
    log: list[str]

    def send(self) -> int:
        if not self.shares:
            return 0
        self.shares -= 1
        self.log.append(self.name)
        return SHARE


def test_a_turn_has_room_for_a_few() -> None:
    """Who comes when a turn is used up sends in the next one, not before."""
    clock = Turns()
    turn, log = Turn(clock), list[str]()
    for number in range(2 * _FITTING + 1):
        turn.take(Client(f"{number}", 1, log).send)
    assert log == [f"{number}" for number in range(_FITTING)]
    clock.advance(1)
    assert len(log) == 2 * _FITTING
    clock.advance(1)
    assert log == [f"{number}" for number in range(2 * _FITTING + 1)]
    clock.advance(1)
    assert not clock.getDelayedCalls()


def test_nobody_is_overtaken() -> None:
    """Those who want more stand behind those who wait already, and so do newcomers."""
    clock = Turns()
    turn, log = Turn(clock), list[str]()
    turn.line_up(Client("greedy", 3, log).send)
    turn.line_up(Client("modest", 1, log).send)
    turn.take(Client("new", 1, log).send)
    clock.pump([1] * 5)
    assert log == ["greedy", "modest", "new", "greedy", "greedy"]


def test_one_alone_goes_on() -> None:
    """Who has the turn for itself sends share after share, but no more than one turn's worth."""
    clock = Turns()
    turn, log = Turn(clock), list[str]()
    turn.take(Client("one", 2 * _FITTING + 1, log).send)
    for shares in (_FITTING, 2 * _FITTING, 2 * _FITTING + 1):
        assert len(log) == shares
        clock.advance(1)
    assert len(log) == 2 * _FITTING + 1


def test_later_is_never_now() -> None:
    """Who stands in line has not been called when that returns."""
    clock = Turns()
    turn, log = Turn(clock), list[str]()
    turn.line_up(Client("later", 1, log).send)
    assert log == []
    clock.advance(1)
    assert log == ["later"]


def test_what_one_may_hold_in_memory_shrinks_with_their_number() -> None:
    """Many transfers that copy hold little each."""
    turn = Turn(Clock())
    with turn:
        assert turn.budget == 512 << 10
    for _ in range(1000):
        turn.__enter__()
    assert turn.budget == 64 << 10


def test_who_fails_holds_nobody_up() -> None:
    """Those who stand behind one whose sending fails are called all the same."""
    clock = Turns()
    turn, log = Turn(clock), list[str]()

    def fail() -> int:
        raise RuntimeError("so it goes")

    turn.line_up(fail)
    turn.line_up(Client("next", 1, log).send)
    with pytest.raises(RuntimeError):
        clock.advance(1)
    clock.advance(1)
    assert log == ["next"]
