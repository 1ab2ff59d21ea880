"""Events as they happen, as Server-Sent Events, to a bounded number of clients.

A client that takes its events too slowly is cut off, and so is everyone when the process stops: a stream
has no end that could be waited for. Nor does a permission hold for as long: with each sign of life it is
looked at anew. Whoever comes back says which event it saw last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
#: Events that wait for a client whose connection is full.
_BACKLOG = 256
#: Milliseconds after which a browser comes back when it lost its stream.
_RETRY = 3000


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
        stream.begin()
        for event in _missed(self._events.recent(), _last_seen(request)):
            stream.send(_encoded(event))
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
        encoded = _encoded(event)
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
    _waiting: list[bytes] = field(factory=list, init=False)
    _paused: bool = field(default=False, init=False)
    _stale: bool = field(default=False, init=False)

    def begin(self) -> None:
        """Send the head, and something that shows that the stream has begun."""
        fields = self.request.responseHeaders
        fields.setRawHeaders(b"Content-Type", [b"text/event-stream"])
        fields.setRawHeaders(b"Cache-Control", [b"no-store"])
        fields.setRawHeaders(b"Vary", [b"Accept"])
        fields.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
        fields.setRawHeaders(b"X-Accel-Buffering", [b"no"])  # nginx would collect events before it sends any
        self.request.registerProducer(self, True)
        self.request.write(b"retry: %d\n\n" % _RETRY)

    def send(self, data: bytes) -> None:
        """Send it as soon as the connection takes it."""
        if not self._paused:
            self.request.write(data)
        elif len(self._waiting) < _BACKLOG:
            self._waiting.append(data)
        else:
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
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.send(data)

    def stopProducing(self) -> None:
        self.end()

    def _cut_off(self) -> None:
        if not self.done.called:
            self.request.channel.stalled()
            self.end()


def _encoded(event: Event) -> bytes:
    kind = "".join(character for character in event.kind if character.isprintable())
    data = json.dumps(event_json(event))
    return f"id: {event.serial}\nevent: {kind}\ndata: {data}\n\n".encode()


def _missed(recent: Sequence[Event], seen: int | None) -> Sequence[Event]:
    """What came after the event that a client saw last; all of it, if that was in another process."""
    if seen is None or not recent:
        return ()
    return [event for event in recent if event.serial > seen or seen > recent[-1].serial]


def _last_seen(request: IRequest) -> int | None:
    """The serial of the last event that the client saw, if it says so and it makes sense."""
    said: list[bytes] = request.requestHeaders.getRawHeaders(b"Last-Event-ID", [])
    text = said[0].strip() if said else b""
    return int(text) if text.isdigit() and len(text) < 20 else None
