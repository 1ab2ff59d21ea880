"""A response whose head is in, and the ways to get at its body."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from txglancecache.errors import OriginProtocolError
from txglancecache.origin.connection import OriginConnection
from txglancecache.origin.framing import BodyReader, Head, Sized


@frozen(eq=False)
class Detached:
    """A response's socket, taken over: a non-blocking handle, and the body bytes already read off it."""

    socket: socket.socket
    buffered: bytes
    _connection: OriginConnection

    def close(self) -> None:
        self.socket.close()
        self._connection.abort()


@implementer(IPushProducer)
@define(eq=False)
class Response:
    """An origin's answer.

    Nothing is read between the head and `deliver`. A body that came along with the head frees the
    connection at once. Whoever does not deliver to the end must `abandon`.
    """

    head: Head
    _reader: BodyReader
    _connection: OriginConnection
    _keeps_alive: bool
    error: Exception | None = field(default=None, init=False)
    _over: bool = field(default=False, init=False)
    _paused: bool = field(default=False, init=False)
    _ready: list[bytes] = field(factory=list, init=False)
    _receive: Callable[[bytes], None] | None = field(default=None, init=False)
    _done: Deferred[None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._done = Deferred(lambda _: self.abandon())

    @property
    def length(self) -> int | None:
        """The body's length by the framing; None when only its end will tell."""
        return self._reader.length

    def deliver(self, receive: Callable[[bytes], None]) -> Deferred[None]:
        """Calls ``receive`` with the body, piece by piece; fires when it is whole, fails when it breaks."""
        if self._receive is not None:
            raise RuntimeError("a body is delivered once")
        self._receive = receive
        ready, self._ready = self._ready, []
        if self._pass_on(ready):
            if self._over:
                self._conclude()
            elif not self._paused:
                self._connection.read()
        return self._done

    async def collect(self, limit: int) -> bytes:
        """The whole of a small body.

        :raises OriginProtocolError: when it is longer than ``limit``.
        """
        parts: list[bytes] = []
        left = limit

        def receive(data: bytes) -> None:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise OriginProtocolError(f"the origin's answer is longer than {limit} bytes")
            parts.append(data)

        await self.deliver(receive)
        return b"".join(parts)

    def abandon(self) -> None:
        """The rest is not wanted. Closes the connection, unless the body was whole already."""
        if not self._over:
            self._connection.abort()
            self.failed(CancelledError())

    def detach(self) -> Detached | None:
        """Takes the socket over, before `deliver`: of a body of known length on plain TCP only."""
        if self._over or self._receive is not None or not isinstance(self._reader, Sized):
            return None
        handle = self._connection.detach()
        if handle is None:
            return None
        self._over = True
        return Detached(handle, b"".join(self._ready), self._connection)

    # For the consumer of the body

    def pauseProducing(self) -> None:
        self._paused = True
        if not self._over:
            self._connection.hold()

    def resumeProducing(self) -> None:
        self._paused = False
        if not self._over and self._receive is not None:
            self._connection.read()

    def stopProducing(self) -> None:
        """The consumer's connection is gone. Whoever awaits the delivery is told so by its own means."""
        if not self._over:
            self._over = True
            self._connection.abort()

    # For the connection

    def received(self, data: bytes) -> None:
        try:
            body = self._reader.feed(data)
        except OriginProtocolError as error:
            self._connection.fail(error)
            return
        self._connection.heard(sum(map(len, body)))
        if self._pass_on(body) and self._reader.finished and not self._over:
            self._over = True
            self._connection.finish(self._keeps_alive and not self._reader.surplus)
            self._conclude()

    def failed(self, error: Exception) -> None:
        self._over = True
        self.error = error
        self._conclude()

    def lost(self, clean: bool) -> None:
        if self._over:
            return
        try:
            self._reader.end(clean)
        except OriginProtocolError as error:
            self.failed(error)
        else:
            self._over = True
            self._conclude()

    # Inside

    def _pass_on(self, body: Sequence[bytes]) -> bool:
        """Whether the receiver took it all and wants to go on."""
        if self._receive is None:
            self._ready.extend(body)
            return True
        for data in body:
            try:
                self._receive(data)
            except Exception as error:
                self._connection.abort()
                self.failed(error)
                return False
            if self._done.called:
                return False
        return True

    def _conclude(self) -> None:
        if self._receive is None or self._done.called:
            return
        if self.error is None:
            self._done.callback(None)
        else:
            self._done.errback(self.error)
