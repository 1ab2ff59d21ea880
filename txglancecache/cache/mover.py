"""Moving a body from a socket into its file, in a thread.

The bytes go from the socket through a pipe into the file without ever entering this process, where the
kernel lets them; through a buffer where it does not. Bytes that are on disk already are read past.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
from collections.abc import Callable

from attrs import define

from txglancecache.cache.span import Span
from txglancecache.errors import OriginProtocolError, OriginTimeout, StoreError
from txglancecache.extents import Extents
from txglancecache.origin.client import Detached

#: The most bytes that one step moves; also the size asked for the pipe.
_STEP = 1 << 20


@define(eq=False)
class Sink:
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


def hang_up(connection: socket.socket) -> None:
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


def move(source: Detached, sink: Sink, written: Callable[[int, int], None], silence: float) -> None:
    """In a thread: socket to file until the span is complete."""
    for start, stop in sink.write([source.buffered]):
        written(start, stop)
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
                # Asked twice: if this process stood still, the time is up, whatever has come meanwhile.
                if not (poll.poll(silence * 1000) or poll.poll(0)):
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
                written(sink.position, sink.position + moved)
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
