"""A request body on its way in: as it comes, at the pace of whoever consumes it.

Holds what one read from the client's socket brought and no more: while nobody takes it, the socket is not
read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from txglancecache.errors import RequestBodyBroken


@implementer(IBodyProducer)
@define(eq=False)
class IncomingBody:
    """The channel feeds it; a consumer starts, pauses, resumes and stops it.

    ``read`` tells the channel whether to read the client's socket. A body that is stopped swallows what
    still comes. One that breaks off fails with `RequestBodyBroken`, however late it is started.
    """

    length: Any  # bytes, or UNKNOWN_LENGTH
    _read: Callable[[IncomingBody, bool], None]
    received: int = field(default=0, init=False)
    complete: bool = field(default=False, init=False)
    _broken: bool = field(default=False, init=False)
    _stopped: bool = field(default=False, init=False)
    _paused: bool = field(default=True, init=False)
    _pending: list[bytes] = field(factory=list, init=False)
    _consumer: IConsumer | None = field(default=None, init=False)
    _done: Deferred[None] | None = field(default=None, init=False)

    # For the consumer

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        if self._broken:
            return fail(RequestBodyBroken(self.received))
        done = self._done = Deferred()
        self._consumer = consumer
        self.resumeProducing()
        return done

    def pauseProducing(self) -> None:
        self._paused = True
        self._ask()

    def resumeProducing(self) -> None:
        self._paused = False
        while self._pending and not (self._paused or self._stopped):
            self._write(self._pending.pop(0))
        self._ask()
        self._conclude()

    def stopProducing(self) -> None:
        self._stopped = True
        self._pending.clear()
        self._ask()

    # For the channel

    @property
    def discarding(self) -> bool:
        """Whether nobody wants what is still to come."""
        return self._stopped

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        self.received += len(data)
        if self._stopped:
            return
        if self._paused:
            self._pending.append(data)
        else:
            self._write(data)

    def end(self) -> None:
        """There was the last of it."""
        self.complete = True
        self._conclude()

    def break_off(self) -> None:
        """The rest will never come."""
        if self.complete or self._broken:
            return
        self._broken = True
        self._pending.clear()
        done, self._done = self._done, None
        if done is not None and not self._stopped:
            done.errback(RequestBodyBroken(self.received))

    # Inside

    def _write(self, data: bytes) -> None:
        assert self._consumer is not None
        self._consumer.write(data)

    def _ask(self) -> None:
        if not (self.complete or self._broken):
            self._read(self, self._stopped or not self._paused)

    def _conclude(self) -> None:
        if self.complete and not (self._pending or self._paused or self._stopped) and self._done is not None:
            done, self._done = self._done, None
            done.callback(None)
