"""Who is let in: how many connections a site has, and how many requests of one client it answers at once."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from txglancecache.clients.limits import Limits
from txglancecache.clients.refusals import Refusals

#: A connection may be closed for another's sake once it has been idle for so many seconds: until then its
#: request may be on its way.
_GRACE = 1.0
#: How many are asked to give way for one that comes.
_TRIES = 16


class Idler(Protocol):
    """A connection, for whoever has to find room for another."""

    def give_way(self) -> bool:
        """Close, if nothing is lost by it, and say whether that is so."""


@define(eq=False)
class Turnstile:
    """Counts the connections and the requests of one site.

    When there are as many connections as there may be, the one that has been idle the longest gives way to a
    new one. A client without an address, on a unix socket, is a proxy on this machine: its requests are not
    counted.
    """

    limits: Limits
    refusals: Refusals
    _clock: IReactorTime
    _connections: set[Idler] = field(factory=set, init=False)
    _idle: dict[Idler, float] = field(factory=dict, init=False)
    _requests: Counter[str] = field(factory=Counter, init=False)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def has_room(self) -> bool:
        """Whether one more connection may come; makes room if it can."""
        if len(self._connections) >= self.limits.connections:
            self._make_room()
        return len(self._connections) < self.limits.connections

    def _make_room(self) -> None:
        before = self._clock.seconds() - _GRACE
        for connection, since in list(islice(self._idle.items(), _TRIES)):
            if since > before:
                return
            if connection.give_way():
                self.left(connection)
                return

    def entered(self, connection: Idler) -> None:
        self._connections.add(connection)
        self.idle(connection)

    def left(self, connection: Idler) -> None:
        self._connections.discard(connection)
        self.busy(connection)

    def idle(self, connection: Idler) -> None:
        """Nothing is being asked on this connection, from now on."""
        if connection in self._connections:
            self._idle[connection] = self._clock.seconds()

    def busy(self, connection: Idler) -> None:
        self._idle.pop(connection, None)

    def begin(self, client: str) -> bool:
        """Whether this client may have one more request answered; each yes wants an `end`."""
        limit = self.limits.requests_per_client
        if client and limit and self._requests[client] >= limit:
            return False
        self._requests[client] += 1
        return True

    def end(self, client: str) -> None:
        self._requests[client] -= 1
        if not self._requests[client]:
            del self._requests[client]
