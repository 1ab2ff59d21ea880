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
    _closed: bool = field(default=False, init=False)
    _empty: Deferred[None] = field(factory=Deferred, init=False)

    async def acquire(self, *, fresh: bool) -> OriginConnection:
        """A connection for the caller alone, until it is released or gone. ``fresh``: one never used.

        :raises OriginBusy: when none came free in time.
        """
        while not self._closed:
            if self._idle and not fresh:
                connection = self._unidle(next(reversed(self._idle)))
                if connection.usable:
                    return connection
            elif len(self._open) + len(self._attempts) < self._limit:
                return await self._connected()
            else:
                if self._idle:  # of no use here, but in the way
                    self._unidle(next(iter(self._idle))).abort()
                await self._turn()
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

    async def _turn(self) -> None:
        """Waits until a connection or the room for one comes free."""
        turn: Deferred[None] = Deferred(self._line.remove)
        self._line.append(turn)
        turn.addTimeout(self._patience, self._clock, self._out_of_patience)
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

    def _out_of_patience(self, result: object, patience: float) -> None:
        raise OriginBusy(f"all {self._limit} connections to the origin were in use for {patience:g} s")
