"""Delivery with ``sendfile``: a pull producer on the TCP transport itself.

While it is registered the transport asks it for more whenever its own buffer is empty, and it answers by
moving bytes from the file to the socket inside the kernel. The channel gets its transport back at the
end. Only public interfaces of the transport are used.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IReactorTime
from twisted.web.http import HTTPChannel, Request
from zope.interface import implementer

from txglancecache.deadline import Deadline
from txglancecache.delivery.manner import FLUSHED, Manner
from txglancecache.delivery.pages import WINDOW, Pages
from txglancecache.delivery.source import Source
from txglancecache.delivery.turn import SHARE, Turn
from txglancecache.errors import ClientGone, ClientStalled, StoreError
from txglancecache.waiting import InThread

#: Bytes on their way that a socket holds; twice as much with the kernel's own use of it.
_SEND_BUFFER = 512 << 10

#: What is the connection's fault when sending fails, not the file's.
_CONNECTION_ERRORS = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.EPIPE,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
    }
)


@implementer(IPullProducer)
@define(eq=False)
class SendfileProducer:
    """Sends what is left of one source to one client.

    It is idle in one of four ways: the socket is full (the transport will ask), it is the turn of others
    (`Turn` will tell), the source has nothing (it will tell), or the file's pages are being read into memory
    (a thread will tell).
    """

    _request: Request
    _source: Source
    _fd: int
    _turn: Turn
    _deadline: Deadline = field(init=False)
    _pages: Pages = field(init=False)
    _clock: IReactorTime
    _in_thread: InThread
    _stall_timeout: float
    _transport: Any = field(default=None, init=False)
    _done: Deferred[None] = field(factory=Deferred, init=False)
    _manner: Manner = field(default=FLUSHED, init=False)
    _asking: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)
    _warm_until: int = field(default=0, init=False)
    _warming: Deferred[None] | None = field(default=None, init=False)
    _missing_pages: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._deadline = Deadline(self._clock)
        self._pages = Pages(self._fd, self._in_thread)

    async def run(self) -> None:
        """Return when the last byte is in the socket."""
        channel = self._request.channel
        transport: Any = channel.transport
        self._transport = transport
        self._request.write(b"")
        handle: socket.socket = transport.getHandle()
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        # Bulk goes out in full segments; the channel's own setting is for small answers.
        transport.setTcpNoDelay(False)
        transport.unregisterProducer()
        transport.registerProducer(self, False)
        self._asking = True
        self._wait_for_client()
        transport.startWriting()
        try:
            await self._done
        finally:
            self._ended = True
            self._deadline.end()
            if self._warming is not None:
                # The thread uses the descriptor, which is ours no longer than this call.
                await self._warming
            self._hand_back(channel, transport)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty; also called once on registration, which is too early."""
        if self._asking and not self._ended:
            self._asking = False
            self._turn.take(self._send)

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._end(ClientGone())

    def _send(self) -> int:
        """Send a share, and see to what comes next unless it is the next share; returns how much was sent."""
        if self._ended:
            return 0
        source = self._source
        before = source.position
        try:
            ready = min(source.available(), SHARE)
            if before < self._warm_until:
                ready = min(ready, self._warm_until - before)
            if not ready:
                self._send_in(FLUSHED)
                self._deadline.clear()
                source.wait().addCallbacks(self._look_again, self._source_failed)
            elif before >= self._warm_until and not self._pages.ready(before, before + ready):
                self._missing_pages = True
                self._send_in(FLUSHED)
                self._deadline.clear()
                self._warm(before)
            else:
                self._sendfile(ready)
                if before < self._warm_until:
                    # What follows cold pages is cold: have it read while these are sent.
                    self._warm(self._warm_until)
                if not source.left:
                    self._end(None)
                elif source.position < before + SHARE:
                    self._ask()
        except Exception as error:
            self._end(error)
        return source.position - before

    def _sendfile(self, count: int) -> None:
        """Send up to ``count`` bytes; fewer when the socket is full."""
        preference, start = self._turn.preference, self._source.position
        if count < SHARE:
            self._send_in(FLUSHED)
            self._send_pieces(start + count)
        else:
            self._send_in(preference.manner)
            began = preference.cpu()
            self._send_pieces(start + count)
            preference.spent(preference.cpu() - began, self._source.position - start)
        if self._source.position > start:
            self._wait_for_client()

    def _send_pieces(self, stop: int) -> None:
        source, socket_fd, most = self._source, self._transport.getHandle().fileno(), self._manner.piece
        while source.position < stop:
            piece = min(stop - source.position, most)
            try:
                sent = os.sendfile(socket_fd, self._fd, source.position, piece)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _CONNECTION_ERRORS:
                    raise ClientGone from error
                raise StoreError(f"cannot read a body: {error}") from error
            if sent == 0:
                raise StoreError(f"the body file ends at byte {source.position}")
            source.advance(sent)
            self._request.sentLength += sent
            if sent < piece:
                return

    def _send_in(self, manner: Manner) -> None:
        """Whoever corks must not leave it at that: what is left of a segment would stay for 200 ms."""
        if manner.corked is not self._manner.corked:
            handle: socket.socket = self._transport.getHandle()
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, manner.corked)
        self._manner = manner

    def _wait_for_client(self) -> None:
        """The client has just taken something, or has just been given something to take."""
        self._deadline.set(self._stall_timeout, self._stalled)

    def _stalled(self) -> None:
        self._end(ClientStalled(self._stall_timeout))

    def _ask(self) -> None:
        """Have the transport call `resumeProducing` when the socket takes more."""
        self._asking = True
        self._transport.startWriting()

    def _look_again(self, _: object) -> None:
        if not self._ended:
            self._wait_for_client()
            self._turn.line_up(self._send)

    def _warm(self, start: int) -> None:
        """Have the window at ``start`` read into memory, unless one is being read."""
        stop = min(self._source.position + self._source.available(), start + WINDOW)
        if self._warming is not None or stop <= start:
            return
        self._warming = Deferred.fromCoroutine(self._pages.fetch(start, stop))

        def over(result: Any) -> Any:
            # First of all: whoever is told of what comes of it may wait for the thread's end.
            self._warming = None
            return result

        def warmed(result: Any) -> None:
            self._warm_until = stop
            if self._missing_pages:
                self._missing_pages = False
                self._look_again(result)

        self._warming.addBoth(over).addCallbacks(warmed, self._source_failed)

    def _source_failed(self, failure: Any) -> None:
        self._end(failure.value)

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        if error is None:
            self._done.callback(None)
        else:
            self._done.errback(error)

    def _hand_back(self, channel: HTTPChannel, transport: Any) -> None:
        transport.unregisterProducer()
        if transport.connected and not transport.disconnecting:
            self._send_in(FLUSHED)
            transport.setTcpNoDelay(True)
            transport.registerProducer(channel, True)
            # Whatever was pending in the transport when we took over is gone: the channel may read on.
            channel.resumeProducing()
