"""One transfer from the origin into a body file.

It knows sockets, pipes and offsets; neither entries nor readers. Where the origin's answer is a sized
body on a plain socket, a thread moves it from the socket through a pipe into the file, without the bytes
ever entering this process. Any other answer (TLS, chunked) comes through the reactor in batches.

A transfer may be told while it runs to stop earlier, and never writes a byte that was not promised to
it: bytes that are on disk already are read past.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from threading import Lock
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads

from txglancecache.errors import OriginProtocolError, OriginTimeout, StoreError
from txglancecache.extents import Extents
from txglancecache.origin.client import Detached, Response
from txglancecache.waiting import InThread, Signal

#: The most bytes that one step moves; also the size asked for the pipe.
_STEP = 1 << 20
#: Bytes of a body that may wait in memory for the disk, when they come through the reactor.
_PENDING_LIMIT = 4 << 20


class TransferStopped(Exception):
    """The transfer was told that nobody wants its bytes any more."""


@define(eq=False)
class Span:
    """The bytes that one transfer brings, shared between the reactor and the thread that moves them.

    ``stop`` may shrink, and grow again up to what the origin was asked for. A mover asks with `take` before
    it moves anything, so that what it was granted stays its own.
    """

    start: int
    _stop: int
    _granted: int = field(init=False)
    _asked: int = field(default=0, init=False)
    _ended: bool = field(default=False, init=False)
    _stopped: bool = field(default=False, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    @_granted.default
    def _(self) -> int:
        return self.start

    @property
    def stop(self) -> int:
        return self._stop

    @property
    def stopped(self) -> bool:
        """Whether nobody wants these bytes any more."""
        return self._stopped

    def take(self, position: int, most: int) -> int:
        """How many bytes from ``position`` on may be moved now, at most ``most``; 0 at the end.

        :raises TransferStopped: nobody wants them any more.
        """
        with self._lock:
            if self._stopped:
                raise TransferStopped
            count = max(0, min(most, self._stop - position))
            self._granted = max(self._granted, position + count)
            self._ended = self._ended or position >= self._stop
            return count

    def ask(self) -> int:
        """Where the answer is to end that is asked for now."""
        with self._lock:
            self._asked = self._stop
            return self._stop

    def shorten(self, stop: int) -> int:
        """End at ``stop``, or after what is being moved already; returns where it will end."""
        with self._lock:
            self._stop = min(self._stop, max(stop, self._granted))
            return self._stop

    def lengthen(self, stop: int) -> None:
        """Go on to ``stop`` after all, unless the mover has ended already."""
        with self._lock:
            if not self._ended:
                self._stop = max(self._stop, min(stop, self._asked))

    def give_up(self) -> None:
        """Have the mover stop at its next step."""
        with self._lock:
            self._stopped = True


@define(eq=False)
class Transfer:
    """Moves the bytes of one answer into the file.

    :param span: what to bring.
    :param written: called in the reactor with ``(start, stop)`` of bytes that are in the file.
    :param in_thread: runs the mover; it may keep a thread for as long as the transfer takes.
    :param silence: seconds without a byte after which the origin counts as gone.
    """

    span: Span
    position: int = field(init=False)
    _written: Callable[[int, int], None]
    _reactor: IReactorFromThreads
    _in_thread: InThread
    _silence: float
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
        sink = _Sink(self.span, fd, begin, present)
        detached = response.detach()
        if detached is None:
            await self._through_reactor(response, sink)
            return
        publisher = _Publisher(self._reactor, self._publish)
        self._abort = partial(_hang_up, detached.socket)
        try:
            await self._in_thread(_move, detached, sink, publisher, self._silence)
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

    def _publish(self, spans: list[tuple[int, int]]) -> None:
        for start, stop in spans:
            self.position = stop
            self._written(start, stop)

    async def _through_reactor(self, response: Response, sink: _Sink) -> None:
        """Collect what arrives, write it in a thread, and pause the origin while the disk is behind."""
        pending: list[bytes] = []
        waiting = 0
        arrived, ended = Signal(), False
        failure: BaseException | None = None

        def receive(data: bytes) -> None:
            nonlocal waiting
            pending.append(data)
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
    _publish: Callable[[list[tuple[int, int]]], None]
    _spans: list[tuple[int, int]] = field(factory=list, init=False)
    _called: bool = field(default=False, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    def add(self, start: int, stop: int) -> None:
        """In the thread: these bytes are in the file."""
        with self._lock:
            if self._spans and self._spans[-1][1] == start:
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
            self._called = False
        self._publish(spans)


@define(eq=False)
class _Sink:
    """Where in the body the stream is, and which of its bytes belong into the file."""

    _span: Span
    fd: int
    position: int
    _present: Extents

    @property
    def complete(self) -> bool:
        return self.position >= self._span.stop

    def next(self, most: int) -> tuple[int, bool]:
        """How many bytes to move next, and whether to keep them; ``(0, …)`` at the end of the span."""
        count = self._span.take(self.position, most)
        held = self._present.reach(self.position)
        if held > self.position:
            return min(count, held - self.position), False
        ahead = self._present.next_start(self.position)
        return (count if ahead is None else min(count, ahead - self.position)), True

    def write(self, chunks: list[bytes]) -> list[tuple[int, int]]:
        """Write what belongs into the file; returns the intervals written."""
        moved: list[tuple[int, int]] = []
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                count, keep = self.next(len(view))
                if count == 0:
                    return moved
                if keep:
                    _write_all(self.fd, view[:count], self.position)
                    moved.append((self.position, self.position + count))
                self.position += count
                view = view[count:]
        return moved


def _hang_up(connection: socket.socket) -> None:
    """Wake the thread that waits for this socket: it reads the end of the stream."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


def _write_all(fd: int, view: memoryview, position: int) -> None:
    try:
        while view:
            count = os.pwrite(fd, view, position)
            view = view[count:]
            position += count
    except OSError as error:
        raise StoreError(f"cannot write a body: {error}") from error


def _move(source: Detached, sink: _Sink, publisher: _Publisher, silence: float) -> None:
    """In a thread: socket to file until the span is complete."""
    for start, stop in sink.write([source.buffered]):
        publisher.add(start, stop)
    mover: _Splice | _Copy = _Splice() if hasattr(os, "splice") else _Copy()
    poll = select.poll()
    poll.register(source.socket, select.POLLIN)
    try:
        while True:
            count, keep = sink.next(_STEP)
            if count == 0:
                return
            try:
                moved = mover.move(source.socket, sink.fd, sink.position, count, keep)
            except BlockingIOError:
                if not poll.poll(silence * 1000):
                    raise OriginTimeout(f"the origin sent nothing for {silence:g} s") from None
                continue
            except _SpliceRefused:
                mover.close()
                mover = _Copy()
                continue
            except OSError as error:
                raise OriginProtocolError(f"the connection broke at byte {sink.position}: {error}") from error
            if moved == 0:
                # A shutdown from our own side looks like the origin's end: `next` tells them apart.
                sink.next(0)
                raise OriginProtocolError(f"the origin closed at byte {sink.position}")
            if keep:
                publisher.add(sink.position, sink.position + moved)
            sink.position += moved
    finally:
        mover.close()


class _SpliceRefused(Exception):
    """This pair of socket and file system cannot splice; nothing was moved."""


class _Splice:
    """Moves bytes inside the kernel, socket to pipe to file."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        try:
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _STEP)
        except OSError:
            # The user's pipe quota is used up; a small pipe works too.
            return

    def move(self, source: socket.socket, fd: int, position: int, count: int, keep: bool) -> int:
        try:
            filled = os.splice(
                source.fileno(), self._in, count, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
            )
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):
                raise _SpliceRefused from None
            raise
        left = filled
        while left:
            if keep:
                left -= self._to_file(fd, position + filled - left, left)
            else:
                left -= len(os.read(self._out, left))
        return filled

    def _to_file(self, fd: int, position: int, count: int) -> int:
        try:
            return os.splice(self._out, fd, count, offset_dst=position, flags=os.SPLICE_F_MOVE)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise StoreError(f"cannot write a body: {error}") from error
        data = os.read(self._out, count)
        _write_all(fd, memoryview(data), position)
        return len(data)

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)


class _Copy:
    """Moves bytes through a buffer of this process."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_STEP))

    def move(self, source: socket.socket, fd: int, position: int, count: int, keep: bool) -> int:
        moved = source.recv_into(self._buffer[:count])
        if keep:
            _write_all(fd, self._buffer[:moved], position)
        return moved

    def close(self) -> None:
        """Nothing is held."""
