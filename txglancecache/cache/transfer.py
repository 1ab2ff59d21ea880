"""One transfer from the origin into a body file.

It knows sockets, pipes and offsets; neither entries nor readers. Where the origin's answer is a sized
body on a plain socket, threads move it from the socket through a pipe into the file, without the bytes
ever entering this process; none of them waits while there is nothing to read. Any other answer (TLS,
chunked) comes through the reactor in batches.

A transfer may be told while it runs to stop earlier, and never writes a byte that was not promised to
it: bytes that are on disk already are read past.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from threading import Lock
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads

from txglancecache.cache.mover import Mover, Sink, Turn, hang_up
from txglancecache.cache.readable import FileReactor, readable
from txglancecache.cache.span import Span, TransferStopped
from txglancecache.errors import OriginProtocolError
from txglancecache.extents import Extents
from txglancecache.origin.client import Response
from txglancecache.origin.patience import Patience
from txglancecache.waiting import InThread, Signal

#: Bytes of a body that may wait in memory for the disk, when they come through the reactor.
_PENDING_LIMIT = 4 << 20


@define(eq=False)
class Transfer:
    """Moves the bytes of one answer into the file.

    :param span: what to bring.
    :param written: called in the reactor with ``(start, stop)`` of bytes that are in the file.
    :param came: called in the reactor with the number of bytes that have come, needed or not.
    :param in_thread: runs what blocks, a few seconds at a time.
    :param silence: seconds without a byte after which the origin counts as gone.
    :param min_rate: bytes a second that have to come, taken over so many seconds.

    ``position`` is where in the body it is, ``brought`` how many bytes it has put into the file.
    """

    span: Span
    position: int = field(init=False)
    brought: int = field(default=0, init=False)
    _written: Callable[[int, int], None]
    _came: Callable[[int], None]
    _reactor: FileReactor
    _in_thread: InThread
    _silence: float
    _min_rate: float = 0.0
    _abort: Callable[[], None] | None = field(default=None, init=False)

    @position.default
    def _(self) -> int:
        return self.span.start

    def give_up(self) -> None:
        """Stop soon; `run` then raises `TransferStopped`."""
        self.span.give_up()
        if self._abort is not None:
            self._abort()

    async def run(self, answer: Coroutine[Any, Any, Response], begin: int, fd: int, present: Extents) -> None:
        """Move the body of ``answer`` until the span is complete.

        :param answer: the response, which may still be on its way.
        :param begin: the offset of the first byte of the response's body.
        :param fd: the body file.
        :param present: what is on disk already, and has to stay as it is.
        :raises OriginError: the origin broke off; what came is kept.
        :raises StoreError: the disk failed.
        :raises TransferStopped: after `give_up`.
        """
        response = await self._head(answer)
        sink = Sink(self.span, fd, begin, present)
        detached = response.detach()
        if detached is None:
            await self._through_reactor(response, sink)
            return
        publisher = _Publisher(self._reactor, self._publish)
        patience = Patience(self._silence, self._min_rate)
        mover = Mover(detached, sink, publisher.add, patience)
        self._abort = partial(hang_up, detached.socket)
        try:
            while (turn := await self._in_thread(mover.turn)) is not Turn.DONE:
                if turn is Turn.DRY:
                    patience.waited(await readable(self._reactor, detached.socket, patience.left))
        finally:
            self._abort = None
            publisher.finish()
            detached.close()

    async def _head(self, answer: Coroutine[Any, Any, Response]) -> Response:
        """The response, unless the transfer is given up before it is there."""
        if self.span.stopped:
            answer.close()
            raise TransferStopped
        coming = Deferred.fromCoroutine(answer)
        self._abort = coming.cancel
        try:
            return await coming
        except CancelledError:
            raise TransferStopped from None
        finally:
            self._abort = None

    def _publish(self, spans: list[tuple[int, int]], came: int = 0) -> None:
        self._came(came)
        for start, stop in spans:
            self.position = stop
            self.brought += stop - start
            self._written(start, stop)

    async def _through_reactor(self, response: Response, sink: Sink) -> None:
        """Collect what arrives, write it in a thread, and pause the origin while the disk is behind."""
        pending: list[bytes] = []
        waiting = 0
        arrived, ended = Signal(), False
        failure: BaseException | None = None

        def receive(data: bytes) -> None:
            nonlocal waiting
            pending.append(data)
            self._came(len(data))
            waiting += len(data)
            if waiting > _PENDING_LIMIT:
                response.pauseProducing()
            arrived.fire()

        def end(result: object) -> None:
            nonlocal ended, failure
            ended = True
            failure = getattr(result, "value", None)
            arrived.fire()

        self._abort = response.abandon
        response.deliver(receive).addBoth(end)
        try:
            while not sink.complete:
                if not pending:
                    if ended:
                        # Our own giving up looks like a failure of the origin's: `next` tells them apart.
                        sink.next(0)
                    if failure is not None:
                        raise failure
                    if ended:
                        raise OriginProtocolError(f"the body ended at byte {sink.position}")
                    await arrived.wait()
                    continue
                batch, pending = pending, []
                moved = await self._in_thread(sink.write, batch)
                self._publish(moved)
                waiting -= sum(map(len, batch))
                if waiting <= _PENDING_LIMIT and not ended:
                    response.resumeProducing()
        finally:
            self._abort = None
            response.abandon()


@define(eq=False)
class _Publisher:
    """Tells the reactor how far a thread has come, with at most one call under way at a time."""

    _reactor: IReactorFromThreads
    _publish: Callable[[list[tuple[int, int]], int], None]
    _spans: list[tuple[int, int]] = field(factory=list, init=False)
    _came: int = field(default=0, init=False)
    _called: bool = field(default=False, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    def add(self, start: int, stop: int, kept: bool) -> None:
        """In the thread: these bytes have come, and are in the file if they were ``kept``."""
        with self._lock:
            self._came += stop - start
            if not kept:
                pass
            elif self._spans and self._spans[-1][1] == start:
                self._spans[-1] = (self._spans[-1][0], stop)
            else:
                self._spans.append((start, stop))
            if self._called:
                return
            self._called = True
        self._reactor.callFromThread(self.finish)

    def finish(self) -> None:
        """In the reactor: pass on what has come so far."""
        with self._lock:
            spans, self._spans = self._spans, []
            came, self._came = self._came, 0
            self._called = False
        self._publish(spans, came)
