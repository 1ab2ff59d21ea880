"""The connections of a site, and how they come to an end when the process stops.

An idle connection is closed at once; one that is being answered is closed after that answer. Who is left
when nobody wants to wait any more is cut off. Knows HTTP connections, nothing about what they carry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python import failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request


@define(eq=False)
class Connections:
    """Every open connection of the sites that are watched."""

    _open: set[HTTPChannel] = field(factory=set, init=False)
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
            if channel.requests:
                channel.persistent = False
            else:
                channel.loseConnection()
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

    def _opened(self, channel: HTTPChannel) -> None:
        self._open.add(channel)
        if self.draining:
            channel.loseConnection()

    def _lost(self, channel: HTTPChannel) -> None:
        self._open.discard(channel)
        self._tell()


class _KnownChannel(HTTPChannel):
    """Tells its ``Connections`` when it begins and ends."""

    connections: Connections

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.connections._opened(self)

    def connectionLost(self, reason: failure.Failure = connectionDone) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.connections._lost(self)

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        if self.connections.draining:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        persistent: bool = super().checkPersistence(  # type: ignore[no-untyped-call]  # so it is in Twisted
            request, version
        )
        return persistent
