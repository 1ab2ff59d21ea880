"""Waiting in the reactor for something to read on a socket that others read."""

from __future__ import annotations

import socket

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReactorFromThreads, IReactorTime, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


class FileReactor(IReactorFromThreads, IReactorTime, IReactorFDSet):
    """A reactor that can watch a socket, as all do that read sockets."""


async def readable(reactor: FileReactor, connection: socket.socket, seconds: float) -> float:
    """Return when there is something to read, or the end, but after ``seconds`` at the latest.

    Returns how long it took, in seconds; never more than ``seconds``, also where this process stood still.
    """
    watch = _Watch(connection)
    began = reactor.seconds()
    reactor.addReader(watch)
    alarm = reactor.callLater(seconds, watch.doRead)
    try:
        await watch.over
    finally:
        reactor.removeReader(watch)
        if alarm.active():
            alarm.cancel()
    return min(seconds, reactor.seconds() - began)


@implementer(IReadDescriptor)
@define(eq=False)
class _Watch:
    """What the reactor tells that the socket can be read."""

    _connection: socket.socket
    over: Deferred[None] = field(factory=Deferred, init=False)

    def fileno(self) -> int:
        return self._connection.fileno()

    def doRead(self) -> None:
        if not self.over.called:
            self.over.callback(None)

    def connectionLost(self, reason: Failure) -> None:
        self.doRead()

    def logPrefix(self) -> str:
        return "origin"
