"""The connections to the origin: how many there may be, who gets one, how long an idle one is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txglancecache.errors import OriginBusy, OriginUnreachable
from txglancecache.origin.connection import OriginConnection


@define(eq=False)
class Pool:
    """At most ``limit`` connections. Who finds all in use waits in line for ``patience`` seconds."""

    _clock: IReactorTime
    _connect: Callable[[], Deferred[OriginConnection]]
    _limit: int
    _patience: float
    _keep_alive: float
    _open: set[OriginConnection] = field(factory=set, init=False)
    _idle: dict[OriginConnection, IDelayedCall] = field(factory=dict, init=False)  # the latest used last
    _attempts: set[Deferred[OriginConnection]] = field(factory=set, init=False)
    _line: deque[Deferred[None]] = field(factory=deque, init=False)
    #: Connections that have to go, and who is going to have a new one for each.
    _succession: dict[OriginConnection, Deferred[None]] = field(factory=dict, init=False)
    _closed: bool = field(default=False, init=False)
    _empty: Deferred[None] = field(factory=Deferred, init=False)

    async def acquire(self, *, fresh: bool) -> OriginConnection:
        """A connection for the caller alone, until it is released or gone. ``fresh``: one never used.

        :raises OriginBusy: when none came free in time.
        """
        until, first = self._clock.seconds() + self._patience, False
        while not self._closed:
            if self._idle and not fresh:
                connection = self._unidle(next(reversed(self._idle)))
                if connection.usable:
                    return connection
            elif len(self._open) + len(self._attempts) < self._limit:
                return await self._connected()
            elif self._idle:
                await self._gone(next(iter(self._idle)))
                if not self._closed:
                    return await self._connected()
            else:
                await self._turn(until, first=first)
                first = True
        raise OriginUnreachable("shutting down")

    def released(self, connection: OriginConnection) -> None:
        """An exchange on ``connection`` is over, and another can be had on it."""
        if self._closed:
            connection.abort()
        else:
            self._idle[connection] = self._clock.callLater(self._keep_alive, self._expire, connection)
            self._next()

    def gone(self, connection: OriginConnection) -> None:
        """``connection`` is lost."""
        self._open.discard(connection)
        if connection in self._idle:
            self._unidle(connection)
        successor = self._succession.pop(connection, None)
        if successor is not None:
            successor.callback(None)
        else:
            self._next()

    async def close(self) -> None:
        """Aborts all connections, and waits until they are gone."""
        self._closed = True
        for connection in list(self._idle):
            self._unidle(connection)
        for attempt in list(self._attempts):
            attempt.cancel()
        for connection in list(self._open):
            connection.fail(OriginUnreachable("shutting down"))
        while self._succession:
            self._succession.popitem()[1].callback(None)
        self._next()
        await self._empty

    async def _connected(self) -> OriginConnection:
        attempt = self._connect()
        self._attempts.add(attempt)
        try:
            connection = await attempt
        except BaseException as error:
            self._attempts.discard(attempt)
            self._next()
            if self._closed and isinstance(error, CancelledError):
                raise OriginUnreachable("shutting down") from None
            raise
        self._attempts.discard(attempt)
        if connection.lost:
            self._next()
        else:
            self._open.add(connection)
        return connection

    async def _gone(self, connection: OriginConnection) -> None:
        """Have a connection that is idle, but of no use here, make room for whoever waits for this."""

        def leave(_: object) -> None:
            del self._succession[connection]

        gone: Deferred[None] = Deferred(leave)
        self._succession[connection] = gone
        self._unidle(connection).abort()
        await gone

    async def _turn(self, until: float, *, first: bool) -> None:
        """Waits until a connection or the room for one comes free.

        :param first: it was the caller's turn before, and in vain.
        :raises OriginBusy: none does, until then.
        """
        turn: Deferred[None] = Deferred(self._line.remove)
        if first:
            self._line.appendleft(turn)
        else:
            self._line.append(turn)
        turn.addTimeout(max(0.0, until - self._clock.seconds()), self._clock, self._out_of_patience)
        await turn

    def _next(self) -> None:
        """Something came free: the first in line may look, or all when there is nothing more to come."""
        while self._line:
            self._line.popleft().callback(None)
            if not self._closed:
                break
        if self._closed and not (self._open or self._attempts or self._empty.called):
            self._empty.callback(None)

    def _unidle(self, connection: OriginConnection) -> OriginConnection:
        self._idle.pop(connection).cancel()
        return connection

    def _expire(self, connection: OriginConnection) -> None:
        del self._idle[connection]
        connection.close()

    def _out_of_patience(self, result: object, left: float) -> None:
        raise OriginBusy(f"all {self._limit} connections to the origin were in use for {self._patience:g} s")
