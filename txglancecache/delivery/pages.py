"""Whether a file's pages are in memory, and getting them there without stopping the reactor."""

from __future__ import annotations

import os

from attrs import define, field

from txglancecache.errors import StoreError
from txglancecache.waiting import InThread, to_the_end

#: How much is read at once where pages are not in memory, in bytes. Up to twice as much is read ahead.
WINDOW = 8 << 20

#: Bytes between two probes.
_BETWEEN = 1 << 20


@define(eq=False)
class Pages:
    """The pages of one open file, from the view of one who reads it in order.

    A probe with ``RWF_NOWAIT`` tells whether a read would block. Where it would, a thread reads the
    pages of the next window into memory first.
    """

    _fd: int
    _in_thread: InThread
    _probe: bytearray = field(factory=lambda: bytearray(1), init=False)

    def ready(self, start: int, stop: int) -> bool:
        """Whether ``[start, stop)`` is, as far as a few probes tell, in memory."""
        return all(self._in_memory(place) for place in (*range(start, stop - 1, _BETWEEN), stop - 1))

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
        await to_the_end(self._in_thread(_read_in, self._fd, start, stop))

    def _in_memory(self, place: int) -> bool:
        try:
            os.preadv(self._fd, [self._probe], place, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            # The file system cannot tell: sending will.
            return True
        return True


def _read_in(fd: int, start: int, stop: int) -> None:
    """Send the bytes nowhere: it is the kernel's own read-ahead that brings them, and nothing is copied.

    ``POSIX_FADV_WILLNEED`` brings them in small pages, which takes twice as long and six times the CPU. As
    ``SEQUENTIAL`` they come in larger requests, which matters where the device's own setting is small.
    """
    try:
        os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_SEQUENTIAL)
        with open(os.devnull, "wb", buffering=0) as nowhere:
            while start < stop and (count := os.sendfile(nowhere.fileno(), fd, start, stop - start)):
                start += count
    except OSError as error:
        raise StoreError(f"cannot read a body: {error}") from error
