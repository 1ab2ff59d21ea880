"""Events as they happen, as Server-Sent Events, to a bounded number of clients.

A client that takes nothing for long is cut off, and so is everyone when the process stops: a stream has no
end that could be waited for. Nor does a permission hold for as long: with each sign of life it is looked at
anew. Whoever comes back says which event it saw last.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IRequest
from zope.interface import implementer

from txglancecache.cache.events import Event
from txglancecache.management.access.authenticate import still_admitted
from txglancecache.management.managed import ManagedEvents
from txglancecache.management.native.problems import Busy
from txglancecache.management.native.schema import event_json

_log = Logger()

#: Seconds between two signs of life.
HEARTBEAT = 15.0
#: Bytes of events that may wait for a client whose connection is full: some twenty thousand events, which may
#: all happen in one turn of the reactor. What waits for several clients is in memory once.
_BACKLOG = 4 << 20
#: Bytes that a connection gets at once. Whoever has taken them has taken something.
_PIECE = 1 << 16
#: A browser that lost its stream comes back after so many milliseconds.
_RETRY = b"retry: 3000\n"


@define(eq=False)
class Streams:
    """Everyone who listens.

    :param most: how many there may be.
    """

    _events: ManagedEvents
    _clock: IReactorTime
    _most: int = 64
    _open: set[Stream] = field(factory=set, init=False)
    _unsubscribe: Callable[[], None] | None = field(default=None, init=False)
    _heartbeat: IDelayedCall | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, request: IRequest) -> None:
        """Send events until the client leaves, is cut off, or the process stops.

        :raises Busy: there are as many streams as there may be, or the process stops.
        """
        if self._closed or len(self._open) >= self._most:
            raise Busy("there are as many streams of events as there may be")
        stream = Stream(request)
        seen = _last_seen(request)
        missed = () if seen is None else self._events.after(seen)
        # Who has heard nothing yet could not say later from where to go on.
        stream.begin(_RETRY + (b"" if missed else f"id: {self._events.last_id()}\n".encode()) + b"\n")
        stream.send(map(_encoded, missed))
        self._enter(stream)
        try:
            await stream.done
        finally:
            self._leave(stream)

    def close(self) -> None:
        """End every stream, and begin none any more."""
        self._closed = True
        for stream in list(self._open):
            stream.end()

    def _enter(self, stream: Stream) -> None:
        self._open.add(stream)
        if self._unsubscribe is None:
            self._unsubscribe = self._events.subscribe(self._happened)
            self._heartbeat = self._clock.callLater(HEARTBEAT, self._beat)

    def _leave(self, stream: Stream) -> None:
        stream.left()
        self._open.discard(stream)
        if not self._open and self._unsubscribe is not None and self._heartbeat is not None:
            self._unsubscribe()
            self._heartbeat.cancel()
            self._unsubscribe = self._heartbeat = None

    def _happened(self, event: Event) -> None:
        encoded = [_encoded(event)]
        for stream in list(self._open):
            stream.send(encoded)

    def _beat(self) -> None:
        self._heartbeat = self._clock.callLater(HEARTBEAT, self._beat)
        for stream in list(self._open):
            stream.beat()
            asking = Deferred.fromCoroutine(self._end_if_unwelcome(stream))
            asking.addErrback(
                lambda failure: _log.failure("A stream's permission cannot be seen to", failure)
            )

    async def _end_if_unwelcome(self, stream: Stream) -> None:
        welcome = False
        try:
            welcome = await still_admitted(stream.request)
        finally:
            if not welcome and not stream.done.called:
                _log.info("A stream of events ends: its client would not be let in any more")
                stream.end()


@implementer(IPushProducer)
@define(eq=False)
class Stream:
    """One client. What its connection does not take at once waits here, up to a point."""

    request: Any
    done: Deferred[None] = field(factory=Deferred, init=False)
    _waiting: deque[bytes] = field(factory=deque, init=False)
    _size: int = field(default=0, init=False)
    _paused: bool = field(default=False, init=False)
    _stale: bool = field(default=False, init=False)

    def begin(self, data: bytes) -> None:
        """Send the head, and this, which shows that the stream has begun."""
        fields = self.request.responseHeaders
        fields.setRawHeaders(b"Content-Type", [b"text/event-stream"])
        fields.setRawHeaders(b"Cache-Control", [b"no-store"])
        fields.setRawHeaders(b"Vary", [b"Accept"])
        fields.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
        fields.setRawHeaders(b"X-Accel-Buffering", [b"no"])  # nginx would collect events before it sends any
        self.request.registerProducer(self, True)
        self.request.write(data)

    def send(self, events: Iterable[bytes]) -> None:
        """Send them as soon as the connection takes them; a client for which too much waits is cut off."""
        for event in events:
            self._waiting.append(event)
            self._size += len(event)
        self._send_what_waits()
        if self._size > _BACKLOG:
            self._cut_off()

    def beat(self) -> None:
        """Show that the stream is alive; a client that took nothing since the last time is cut off."""
        if not self._paused:
            self.request.write(b": still here\n\n")
        elif self._stale:
            self._cut_off()
        self._stale = self._paused

    def end(self) -> None:
        """There is no more to come."""
        if not self.done.called:
            self.done.callback(None)

    def left(self) -> None:
        """The stream is over, however that came about."""
        if self.request.channel is not None:
            self.request.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = self._stale = False
        self._send_what_waits()

    def stopProducing(self) -> None:
        self.end()

    def _send_what_waits(self) -> None:
        while self._waiting and not self._paused:
            piece = bytearray()
            while self._waiting and len(piece) < _PIECE:
                piece += self._waiting.popleft()
            self._size -= len(piece)
            self.request.write(bytes(piece))

    def _cut_off(self) -> None:
        if not self.done.called:
            self.request.channel.stalled()
            self.end()


def _encoded(event: Event) -> bytes:
    kind = "".join(character for character in event.kind if character.isprintable())
    data = json.dumps(event_json(event))
    return f"id: {event.id}\nevent: {kind}\ndata: {data}\n\n".encode()


def _last_seen(request: IRequest) -> str | None:
    """The id of the last event that the client saw, if it says so."""
    said: list[bytes] = request.requestHeaders.getRawHeaders(b"Last-Event-ID", [])
    return said[0].strip().decode("latin-1") or None if said else None
