"""Moving a body from a socket into its file, in threads.

They go through pipes, and never enter this process, where the kernel lets them. How far a mover has come is
told now and then: each time wakes the reactor and all who read, which costs more than to move a mebibyte.
Bytes that are on disk already are read past.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import closing
from enum import Enum

from attrs import define, field

from txglancecache.cache.span import Span
from txglancecache.errors import OriginProtocolError, OriginTimeout, StoreError
from txglancecache.extents import Extents
from txglancecache.origin.client import Detached
from txglancecache.origin.patience import Patience
from txglancecache.store.allocation import give_back, set_aside

#: The most bytes that one step moves; also the size asked for a pipe, which may not be larger.
_STEP = 1 << 20

#: How far ahead of what is written room is set aside, in bytes. Pieces of 4 MiB leave a file in pieces.
_AHEAD = 16 << 20

#: Seconds after which a mover lets others have its thread.
_TURN = 2.0

#: How long bytes may be in the file before that is told, in seconds: while more come, and when none do. As
#: soon as there are so many, they are told of at once.
_UNTOLD = 0.02
_UNTOLD_AT_REST = 0.005
_MANY = 8 << 20

#: Seconds for which a mover waits for more in its thread, before it gives that back.
_LINGERING = 0.1


@define(eq=False)
class Sink:
    """Where in the body the stream is, and which of its bytes belong into the file."""

    _span: Span
    fd: int
    position: int
    _present: Extents
    _prepared: int = field(default=0, init=False)

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

    def prepare(self) -> None:
        """Have room for what comes next at once, which is less work than to find it page by page."""
        if self.position >= self._prepared:
            count = min(self._span.stop - self.position, _AHEAD)
            self._prepared = self.position + count
            if count > _STEP:
                set_aside(self.fd, self.position, count)

    def give_back(self) -> None:
        """The rest does not come: it takes no room any more."""
        end = self._span.hold(self._prepared)
        if end > self.position:
            for start, stop in Extents.of((self.position, end)).difference(self._present):
                give_back(self.fd, start, stop - start)

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


class Turn(Enum):
    """How a turn of a mover ended."""

    DONE = "all of the span is in the file"
    DRY = "there is nothing to read"
    AGAIN = "it took long enough"


@define(eq=False)
class Mover:
    """Moves one body from its socket into its file, in turns, each in some thread.

    A turn ends soon after there is nothing left to read, so that an origin that is slow keeps neither a
    thread nor a buffer, and at the latest after a while, so that others get at these.

    :param moved: called in the thread with ``(start, stop, kept)``: these bytes have come, and were written
        or read past.
    :param patience: how long the origin is waited for; who waits between two turns says so there.
    """

    _source: Detached
    _sink: Sink
    _moved: Callable[[int, int, bool], None]
    patience: Patience
    _begun: bool = field(default=False, init=False)
    _told: int = field(init=False)  # up to where in the body
    _told_at: float = field(default=0.0, init=False)
    _kept: bool = field(default=True, init=False)  # what is not told yet
    _splices: bool = field(factory=lambda: hasattr(os, "splice"), init=False)
    _poll: select.poll = field(factory=select.poll, init=False)

    @_told.default
    def _(self) -> int:
        return self._sink.position

    def turn(self) -> Turn:
        """Move what there is.

        :raises OriginError: the connection broke, or brings too little.
        :raises StoreError: the disk failed.
        :raises TransferStopped: nobody wants it any more.
        """
        try:
            if not self._begun:
                self._begin()
            try:
                return self._move()
            except _SpliceRefused:
                self._splices = False
                return self._move()
        except BaseException:
            self._sink.give_back()
            raise

    def _move(self) -> Turn:
        ends = time.monotonic() + _TURN
        with closing(self._way()) as way:
            try:
                while True:
                    count, keep = self._sink.next(_STEP)
                    if not count:
                        return Turn.DONE
                    if self._step(way, count, keep):
                        if time.monotonic() > ends:
                            return Turn.AGAIN
                    elif not self._linger():
                        return Turn.DRY
            finally:
                self._tell()

    def _way(self) -> _Splice | _Copy:
        """The best that is to be had."""
        try:
            return _Splice() if self._splices else _Copy()
        except OSError:
            # No descriptor is left for a pipe.
            return _Copy()

    def _begin(self) -> None:
        """What was read together with the head comes first."""
        self._begun = True
        self._poll.register(self._source.socket, select.POLLIN)
        for kept_from, kept_to in self._sink.write([self._source.buffered]):
            self._tell_to(kept_from, False)
            self._tell_to(kept_to, True)
        self._tell_to(self._sink.position, False)

    def _tell(self) -> None:
        self._tell_to(self._sink.position, self._kept)
        self._told_at = time.monotonic()

    def _tell_to(self, position: int, kept: bool) -> None:
        if self._told < position:
            self._moved(self._told, position, kept)
            self._told = position

    def _step(self, way: _Splice | _Copy, count: int, keep: bool) -> bool:
        """Move at most ``count`` bytes; ``False`` if there are none to read."""
        sink = self._sink
        if keep:
            # Where bytes are only read past, the body may be whole: its file must stay as it is.
            sink.prepare()
        if keep is not self._kept:
            self._tell()
            self._kept = keep
        try:
            moved = way.move(self._source.socket, sink.fd, sink.position, count, keep)
        except BlockingIOError:
            return False
        except OSError as error:
            raise OriginProtocolError(f"the connection broke at byte {sink.position}: {error}") from error
        if moved == 0:
            # A shutdown from our own side looks like the origin's end: `next` tells them apart.
            sink.next(0)
            raise OriginProtocolError(f"the origin closed at byte {sink.position}")
        self.patience.came(moved)
        sink.position += moved
        if sink.position >= self._told + _MANY or time.monotonic() > self._told_at + _UNTOLD:
            self._tell()
        return True

    def _linger(self) -> bool:
        """Whether there is more to read after all: most origins are never behind for long."""
        complaint = self.patience.complaint()
        if complaint is not None:
            raise OriginTimeout(complaint)
        began = time.monotonic()
        ready = bool(self._poll.poll(_UNTOLD_AT_REST * 1000))
        if not ready:
            self._tell()
            ready = bool(self._poll.poll(_LINGERING * 1000))
        self.patience.waited(min(_LINGERING, time.monotonic() - began))
        return ready


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
        # A mapping goes back to the system when nobody refers to it any more; the heap might keep it.
        self._buffer = memoryview(mmap.mmap(-1, _STEP, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def move(self, source: socket.socket, fd: int, position: int, count: int, keep: bool) -> int:
        moved = source.recv_into(self._buffer[:count])
        if keep:
            _write_all(fd, self._buffer[:moved], position)
        return moved

    def close(self) -> None:
        self._buffer = memoryview(b"")
