"""The body of one answer on its way: out of the file, and from the origin if the file gives out.

What goes wrong with the disk after the first byte is no concern of the client's. What goes wrong with the
body itself, or with the origin, is: that ends in an exception, and the caller breaks the connection.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from typing import NoReturn

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txglancecache.cache.cache import Cache
from txglancecache.cache.entry import DigestCheck
from txglancecache.cache.reader import Reader
from txglancecache.cache.source import Source
from txglancecache.cache.verify import BodyDigest
from txglancecache.delivery.delivery import Delivery
from txglancecache.errors import BodyAltered, OriginBusy, StoreError
from txglancecache.proxy.continuation import Continuation
from txglancecache.proxy.site import DataRequest
from txglancecache.ranges import MultipartPlan
from txglancecache.waiting import Semaphore

_log = Logger()

#: So many bytes that were sent last may not have left this machine's memory, or the client's if that is the
#: same: what `sendfile` sends is the file's own pages until then. As much as a socket's buffers may hold.
_IN_FLIGHT = 64 << 20

#: What was sent of a body that is known to be right is hashed again if it is no longer than this, in bytes,
#: so that what follows can be checked too.
_WORTH_HASHING = 1 << 30


@define(eq=False)
class Sending:
    """Sends what ``readers``, all of one entry, have to give, framed by ``plan`` if there are several.

    :param source: where the rest comes from when the disk does not give it.
    :param lanes: how many may go on from there at once: each keeps one of the connections to the origin,
        which others need to be let in. Who waits for too long is given up, and shares a transfer when it
        comes back.
    """

    _request: DataRequest
    _readers: Sequence[Reader]
    _plan: MultipartPlan | None
    _source: Source
    _cache: Cache
    _delivery: Delivery
    _clock: IReactorTime
    _lanes: Semaphore
    _continuation: Continuation = field(init=False)

    @_continuation.default
    def _(self) -> Continuation:
        image = self._readers[0].entry.image
        return Continuation(self._request, image, self._source, self._clock, self._delivery.stall_timeout)

    @property
    def from_files(self) -> int:
        """Bytes of the image that were sent out of its file."""
        return sum(reader.position - reader.start for reader in self._readers)

    @property
    def passed_through(self) -> int:
        """Bytes of the image that went from the origin to the client and nowhere else."""
        return self._continuation.sent

    @property
    def whole(self) -> bool:
        """Whether every byte that was asked for has been sent."""
        wanted = sum(reader.stop - reader.start for reader in self._readers)
        return self.from_files + self.passed_through == wanted

    async def run(self, fd: int) -> None:
        """Send it all; ``fd`` is the file, open for as long as the readers are.

        :raises ClientGone: the client closed its connection.
        :raises ClientStalled: it takes nothing.
        :raises DigestMismatch: the body is wrong.
        :raises BodyAltered: what was sent may be wrong.
        :raises Exception: neither the disk nor the origin gives the rest.
        """
        preambles = [preamble for preamble, _ in self._plan.parts()] if self._plan else [b""]
        parts = iter(zip(preambles, self._readers, strict=True))
        for preamble, reader in parts:
            if preamble:
                self._request.write(preamble)
            try:
                await self._delivery.send(self._request, reader, fd)
                reader.check()
            except StoreError as error:
                await self._go_on(reader, parts, fd, error)
        if self._plan:
            self._request.write(self._plan.trailer)

    async def _go_on(
        self, reader: Reader, parts: Iterator[tuple[bytes, Reader]], fd: int, error: StoreError
    ) -> None:
        """Send what is left of ``reader``, and all other parts, from the origin."""
        entry = reader.entry
        self._cache.disk_failed(entry, error)
        _log.warn(
            "Image {id} goes on from the origin at byte {position}: {error}",
            id=entry.image.image_id,
            position=reader.position,
            error=str(error),
        )
        known = not entry.in_doubt
        whole = reader.whole and entry.check is not DigestCheck.OFF
        digest = BodyDigest(entry.image, self._cache.threads.hash)
        await self._lanes.acquire().addTimeout(self._delivery.stall_timeout, self._clock, _out_of_patience)
        try:
            with self._continuation as continuation:
                if isinstance(error, BodyAltered) and (known or not whole):
                    await self._compare(digest, fd)
                elif whole and not (known and reader.position > _WORTH_HASHING):
                    await _read(digest, fd, reader.position)
                self._let_go()
                if reader.left and whole:
                    await continuation.rest(reader.position, digest, known=known)
                elif reader.left:
                    await continuation.part(reader.position, reader.stop)
                for preamble, part in parts:
                    self._request.write(preamble)
                    await continuation.part(part.start, part.stop)
        finally:
            self._lanes.release()

    def _let_go(self) -> None:
        """Have the file closed, unless others hold it: its blocks may be what the disk lacks."""
        for reader in self._readers:
            reader.close()

    async def _compare(self, digest: BodyDigest, fd: int) -> None:
        """See whether what may still be on its way to the client is what the origin has.

        :raises BodyAltered: it is not.
        :raises StoreError: it cannot be read.
        """
        left = _IN_FLIGHT
        for reader in reversed(self._readers):
            start = max(reader.start, reader.position - left)
            left -= reader.position - start
            stop = _end_of_doubt(fd, start, reader.position)
            if start < stop:
                part = digest.fresh()
                await part.read(fd, start, stop)
                await self._continuation.compare(start, stop, part)


def _end_of_doubt(fd: int, start: int, stop: int) -> int:
    """Up to where ``[start, stop)`` of a file that somebody else changed may be another than was sent.

    Pages that a file loses when it is cut short stay as they were until they have been sent. But behind its
    new end, the page that the end is in has been filled with zeros.

    :raises BodyAltered: some of it is another.
    """
    end = os.fstat(fd).st_size
    if start <= end < stop and end % mmap.PAGESIZE:
        raise BodyAltered("a page on its way to the client")
    return min(stop, end)


def _out_of_patience(result: object, seconds: float) -> NoReturn:
    raise OriginBusy(f"others have gone on from the origin for {seconds:g} s")


async def _read(digest: BodyDigest, fd: int, stop: int) -> None:
    """Hash what can be read of the beginning of a file."""
    try:
        await digest.read(fd, 0, stop)
    except StoreError as error:
        _log.info("What was sent cannot be read again: {error}", error=str(error))
