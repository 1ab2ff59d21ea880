"""The connections of a site, and how they come to an end when the process stops.

An idle connection is closed at once, after a look at what has come on it; one that is new gets a moment to
bring its first request; one that is being answered is closed after that answer. Who is left when nobody wants
to wait any more is cut off. Knows HTTP connections, nothing about what they carry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python import failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

#: Seconds that a connection which was opened as the draining began may take to bring its first request. Its
#: client has every right to an answer, and would see a reset instead.
_FIRST_REQUEST = 1.0


@define(eq=False)
class Connections:
    """Every open connection of the sites that are watched."""

    _open: set[_KnownChannel] = field(factory=set, init=False)
    _waiters: list[Deferred[None]] = field(factory=list, init=False)
    _warned: list[Callable[[], None]] = field(factory=list, init=False)
    draining: bool = field(default=False, init=False)

    def watch(self, site: HTTPFactory) -> None:
        """Know the connections of ``site`` from now on, whatever kind of channel it has."""
        # By default it is a function, which chooses between HTTP/1.1 and what else is there to be had.
        base = site.protocol if isinstance(site.protocol, type) else HTTPChannel
        known = type(base.__name__, (_KnownChannel, base), {"connections": self})
        site.protocol = known  # type: ignore[method-assign]  # a site's protocol is meant to be set

    def before_draining(self, call: Callable[[], None]) -> None:
        """Call this when draining begins: whoever serves answers without an end has to end them."""
        self._warned.append(call)

    def __len__(self) -> int:
        return len(self._open)

    def drain(self) -> Deferred[None]:
        """Close what is idle and let the rest finish; fires when none is left. May be cancelled."""
        self.draining = True
        for call in self._warned:
            call()
        for channel in list(self._open):
            channel.come_to_an_end()
        return self._emptied()

    def abort(self) -> Deferred[None]:
        """Cut off all that is left; fires when they are gone."""
        self.draining = True
        for channel in list(self._open):
            cast(ITCPTransport, channel.transport).abortConnection()
        return self._emptied()

    def _emptied(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        self._tell()
        return waiter

    def _tell(self) -> None:
        if not self._open:
            waiters, self._waiters[:] = list(self._waiters), []
            for waiter in waiters:
                waiter.callback(None)

    def _opened(self, channel: _KnownChannel) -> None:
        self._open.add(channel)
        if self.draining:
            channel.come_to_an_end()

    def _lost(self, channel: _KnownChannel) -> None:
        self._open.discard(channel)
        self._tell()


class _KnownChannel(HTTPChannel):
    """Tells its ``Connections`` when it begins and ends."""

    connections: Connections
    _asked = False
    _ending: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.connections._opened(self)

    def connectionLost(self, reason: failure.Failure = connectionDone) -> None:
        if self._ending is not None and self._ending.active():
            self._ending.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.connections._lost(self)

    def come_to_an_end(self) -> None:
        """Answer what is being asked, and nothing after that."""
        if self.requests:
            self.persistent = False
        elif self._ending is None:
            # By the next turn of the reactor what is in the socket has been read.
            self._ending = self.callLater(0 if self._asked else _FIRST_REQUEST, self._end_if_idle)  # type: ignore[no-untyped-call]  # so it is in Twisted

    def _end_if_idle(self) -> None:
        if not self.requests:
            self.loseConnection()  # type: ignore[no-untyped-call]  # so it is in Twisted

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        self._asked = True
        if self.connections.draining:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        persistent: bool = super().checkPersistence(  # type: ignore[no-untyped-call]  # so it is in Twisted
            request, version
        )
        return persistent
