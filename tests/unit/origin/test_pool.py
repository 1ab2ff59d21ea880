"""How connections are shared."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from txglancecache.errors import OriginBusy, OriginUnreachable
from txglancecache.origin.connection import OriginConnection
from txglancecache.origin.pool import Pool


@define(eq=False)
class Net:
    """Makes connections when the test says so, and loses those that are aborted or closed."""

    clock: Clock = field(factory=Clock)
    attempts: list[Deferred[OriginConnection]] = field(factory=list)
    pool: Pool = field(init=False)
    limit: int = 2

    def __attrs_post_init__(self) -> None:
        self.pool = Pool(self.clock, self._connect, self.limit, patience=5, keep_alive=15)

    def _connect(self) -> Deferred[OriginConnection]:
        attempt: Deferred[OriginConnection] = Deferred()
        self.attempts.append(attempt)
        return attempt

    def ask(self, *, fresh: bool = False) -> Asked:
        return Asked(Deferred.fromCoroutine(self.pool.acquire(fresh=fresh)))

    def connected(self) -> OriginConnection:
        connection = OriginConnection(self.clock, 60, self.pool.released, self.pool.gone)
        connection.makeConnection(StringTransport())
        self.attempts.pop(0).callback(connection)
        return connection

    def have(self) -> OriginConnection:
        asked = self.ask()
        connection = self.connected()
        assert asked.result() is connection
        return connection

    def reap(self, *connections: OriginConnection) -> None:
        """What the reactor does a turn later."""
        for connection in connections:
            transport: Any = connection.transport
            if transport.disconnecting and not connection.lost:
                connection.connectionLost(Failure(ConnectionAborted()))


@define(eq=False)
class Asked:
    deferred: Deferred[OriginConnection]
    results: list[Any] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.deferred.addBoth(self.results.append)

    def result(self) -> Any:
        assert self.results, "still waiting"
        if isinstance(self.results[0], Failure):
            self.results[0].raiseException()
        return self.results[0]


@pytest.fixture
def net() -> Net:
    return Net()


def test_the_latest_used_comes_first(net: Net) -> None:
    """So that those that are not needed grow old."""
    first, second = net.have(), net.have()
    net.pool.released(first)
    net.pool.released(second)
    assert net.ask().result() is second
    assert net.ask().result() is first
    assert net.attempts == []


def test_an_idle_connection_is_closed_in_the_end(net: Net) -> None:
    """After ``keep_alive`` seconds, counted anew each time."""
    connection = net.have()
    net.pool.released(connection)
    net.clock.advance(14)
    assert net.ask().result() is connection
    net.pool.released(connection)
    net.clock.advance(14)
    assert not connection.transport.disconnecting
    net.clock.advance(1)
    assert connection.transport.disconnecting
    net.ask()
    assert len(net.attempts) == 1


def test_an_idle_connection_that_the_origin_closes(net: Net) -> None:
    """Is forgotten."""
    connection = net.have()
    net.pool.released(connection)
    connection.connectionLost(Failure(ConnectionDone()))
    assert net.clock.getDelayedCalls() == []
    net.ask()
    assert len(net.attempts) == 1


def test_an_idle_connection_about_to_end(net: Net) -> None:
    """Is not handed out."""
    connection = net.have()
    net.pool.released(connection)
    connection.dataReceived(b"unasked")
    net.ask()
    assert len(net.attempts) == 1
    net.reap(connection)
    assert net.clock.getDelayedCalls() == []


def test_no_more_than_the_limit(net: Net) -> None:
    """Others wait in line, first come first served."""
    one, two = net.have(), net.have()
    waiting = [net.ask(), net.ask()]
    assert net.attempts == []
    net.pool.released(two)
    assert waiting[0].result() is two
    assert waiting[1].results == []
    one.connectionLost(Failure(ConnectionDone()))
    assert net.connected() is waiting[1].result()


def test_patience(net: Net) -> None:
    """Who waits too long is told that the origin is busy, and holds up nobody."""
    one, _ = net.have(), net.have()
    early = net.ask()
    net.clock.advance(4)
    late = net.ask()
    net.clock.advance(1)
    with pytest.raises(OriginBusy, match="all 2 connections"):
        early.result()
    net.pool.released(one)
    assert late.result() is one


def test_leaving_the_line(net: Net) -> None:
    """Who is cancelled gives way."""
    one, _ = net.have(), net.have()
    leaver, stayer = net.ask(), net.ask()
    leaver.deferred.cancel()
    with pytest.raises(CancelledError):
        leaver.result()
    net.pool.released(one)
    assert stayer.result() is one


def test_a_failed_attempt_makes_room(net: Net) -> None:
    """For the next in line."""
    failing, trying, waiting = net.ask(), net.ask(), net.ask()
    assert len(net.attempts) == 2
    net.attempts.pop(0).errback(OriginUnreachable("refused"))
    with pytest.raises(OriginUnreachable):
        failing.result()
    assert len(net.attempts) == 2
    assert net.connected() is trying.result()
    assert net.connected() is waiting.result()


def test_a_cancelled_attempt_makes_room(net: Net) -> None:
    """And its caller sees the cancellation."""
    leaver, _, waiting = net.ask(), net.ask(), net.ask()
    leaver.deferred.cancel()
    with pytest.raises(CancelledError):
        leaver.result()
    net.attempts.pop(0)
    net.connected()
    assert net.connected() is waiting.result()


def test_a_connection_that_is_lost_at_once(net: Net) -> None:
    """Does not count."""
    asked = [net.ask(), net.ask(), net.ask()]
    for attempt in list(net.attempts):
        net.attempts.remove(attempt)
        connection = OriginConnection(net.clock, 60, net.pool.released, net.pool.gone)
        connection.makeConnection(StringTransport())
        connection.connectionLost(Failure(ConnectionDone()))
        attempt.callback(connection)
    assert asked[0].result().lost
    assert asked[1].result().lost
    assert net.connected() is asked[2].result()


def test_a_new_connection_although_some_are_idle(net: Net) -> None:
    """While there is room beside them; else the oldest idle one has to go first."""
    old = net.have()
    net.pool.released(old)
    fresh = net.ask(fresh=True)
    younger = net.connected()
    assert fresh.result() is younger
    net.pool.released(younger)

    another = net.ask(fresh=True)
    assert net.attempts == []
    assert old.transport.disconnecting
    assert not younger.transport.disconnecting
    net.reap(old)
    assert net.connected() is another.result()


def test_who_needs_a_new_connection_is_not_passed_over(net: Net) -> None:
    """However many wait who could do with a used one: it gets the place of the next that comes free."""
    used = net.have(), net.have()
    fresh = net.ask(fresh=True)
    others = [net.ask() for _ in range(3)]
    net.pool.released(used[0])
    assert used[0].transport.disconnecting
    net.pool.released(used[1])
    assert others[0].result() is used[1]
    net.reap(used[0])
    assert net.connected() is fresh.result()
    assert [other.results for other in others[1:]] == [[], []]
    net.pool.released(fresh.result())
    assert others[1].result() is fresh.result()


def test_who_does_not_want_a_new_connection_any_more(net: Net) -> None:
    """Leaves the place that was being made for it to the next in line."""
    used = net.have(), net.have()
    fresh, other = net.ask(fresh=True), net.ask()
    net.pool.released(used[0])
    fresh.deferred.cancel()
    with pytest.raises(CancelledError):
        fresh.result()
    net.reap(used[0])
    assert net.connected() is other.result()


def test_a_turn_in_vain(net: Net) -> None:
    """Who finds a connection that is of no use goes on being the first, and waits no longer for it."""
    used = net.have(), net.have()
    early = net.ask()
    net.clock.advance(3)
    late = net.ask()
    used[0].transport.loseConnection()
    used[0].close()
    net.pool.released(used[0])
    net.clock.advance(2)
    with pytest.raises(OriginBusy, match="for 5 s"):
        early.result()
    net.pool.released(used[1])
    assert late.result() is used[1]


def test_closing(net: Net) -> None:
    """Ends what is idle, in use, being made and waited for, and says when all are gone."""
    idle, used = net.have(), net.have()
    waiting = net.ask()
    net.pool.released(idle)
    assert waiting.result() is idle
    net.pool.released(idle)
    net.pool._limit = 3
    connecting = net.ask(fresh=True)
    queueing = net.ask(fresh=True)
    closed = Asked(Deferred.fromCoroutine(net.pool.close()))
    with pytest.raises(OriginUnreachable, match="shutting down"):
        connecting.result()
    with pytest.raises(OriginUnreachable, match="shutting down"):
        queueing.result()
    with pytest.raises(OriginUnreachable, match="shutting down"):
        net.ask().result()
    assert closed.results == []
    net.reap(idle, used)
    assert closed.result() is None
    assert net.clock.getDelayedCalls() == []


def test_closing_an_unused_pool(net: Net) -> None:
    """Has nothing to wait for."""
    assert Asked(Deferred.fromCoroutine(net.pool.close())).result() is None


def test_released_after_closing(net: Net) -> None:
    """A connection that comes back late is aborted."""
    connection = net.have()
    Asked(Deferred.fromCoroutine(net.pool.close()))
    net.pool.released(connection)
    assert connection.transport.disconnected
