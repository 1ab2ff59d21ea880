"""Whether a file's pages are in memory, and getting them there without stopping the reactor."""

from __future__ import annotations

import os

from attrs import define, field

from txglancecache.errors import StoreError
from txglancecache.waiting import InThread, to_the_end

#: How far ahead of the send position pages are read when they were not in memory, in bytes.
WINDOW = 8 << 20
_PAGE_STEP = 128 << 10


@define(eq=False)
class Pages:
    """The pages of one open file, from the view of one who reads it in order.

    A probe with ``RWF_NOWAIT`` tells whether a read would block. Where it would, a thread touches the
    pages of the next window first.
    """

    _fd: int
    _in_thread: InThread
    _probe: bytearray = field(factory=lambda: bytearray(1), init=False)

    def ready(self, start: int, stop: int) -> bool:
        """Whether ``[start, stop)`` is, as far as three probes tell, in memory."""
        return all(self._in_memory(place) for place in (start, (start + stop) // 2, stop - 1))

    def read(self, start: int, stop: int) -> bytes | None:
        """``[start, stop)``, if it is in memory."""
        data = bytearray(stop - start)
        try:
            count = os.preadv(self._fd, [data], start, os.RWF_NOWAIT)
        except OSError:
            return None
        return bytes(data) if count == stop - start else None

    async def fetch(self, start: int, stop: int) -> None:
        """Have ``[start, stop)`` read into memory."""
        await to_the_end(self._in_thread(_touch, self._fd, start, stop))

    def _in_memory(self, place: int) -> bool:
        try:
            os.preadv(self._fd, [self._probe], place, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            # The file system cannot tell: sending will.
            return True
        return True


def _touch(fd: int, start: int, stop: int) -> None:
    try:
        os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_WILLNEED)
        for place in range(start, stop, _PAGE_STEP):
            os.pread(fd, 1, place)
        os.pread(fd, 1, stop - 1)
    except OSError as error:
        raise StoreError(f"cannot read a body: {error}") from error
