"""Computes a body's digest in a thread: of a file that may still be growing, or of bytes as they come."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from attrs import define, field

from txglancecache.errors import BodyAltered, DigestMismatch, StoreError
from txglancecache.image import Image
from txglancecache.store.stamp import Stamp
from txglancecache.waiting import InThread, Signal, to_the_end

#: The most bytes that one turn in the thread hashes; between turns whoever waits can leave.
_TURN = 32 << 20
#: Less than this is not worth a turn, unless it is the end of the body.
_WORTHWHILE = 1 << 20
_BUFFER = 1 << 20


@define(eq=False)
class BodyDigest:
    """The digest of consecutive bytes of ``image``'s body. ``hashed`` counts them."""

    _image: Image
    _in_thread: InThread
    hashed: int = field(default=0, init=False)
    _digest: hashlib._Hash = field(init=False)

    @_digest.default
    def _(self) -> hashlib._Hash:
        return hashlib.new(self._image.algorithm, usedforsecurity=False)

    def fresh(self) -> BodyDigest:
        """One of nothing yet."""
        return BodyDigest(self._image, self._in_thread)

    async def update(self, data: bytes) -> None:
        """Hash ``data``."""
        await to_the_end(self._in_thread(self._digest.update, data))
        self.hashed += len(data)

    async def read(self, fd: int, start: int, stop: int) -> None:
        """Hash ``[start, stop)`` of a file. When this ends, however it does, no thread uses the file.

        :raises StoreError: it cannot be read, or is shorter.
        """
        while start < stop:
            turn = min(stop, start + _TURN)
            await to_the_end(self._in_thread(hash_part, self._digest, fd, start, turn))
            self.hashed += turn - start
            start = turn

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def check(self) -> None:
        """
        :raises DigestMismatch: what was hashed is not the image's body.
        """
        image, actual = self._image, self.hexdigest()
        if actual != image.digest:
            raise DigestMismatch(image.algorithm, image.digest, actual)


@define(eq=False)
class Verifier:
    """Hashes ``image``'s body as far as it has come.

    :param reach: the end of the contiguous prefix of the body, in bytes, now.
    :param grown: fires when it may have moved, or when the verifier was stopped.

    ``stamp`` is what the file looked like from the time when all of it was there.
    """

    _image: Image
    _reach: Callable[[], int]
    _grown: Signal
    _in_thread: InThread
    hashed: int = field(default=0, init=False)
    stopped: bool = field(default=False, init=False)
    stamp: Stamp | None = field(default=None, init=False)

    def stop(self) -> None:
        """Have `run` return ``False`` soon."""
        self.stopped = True
        self._grown.fire()

    async def run(self, fd: int) -> bool:
        """Return ``True`` when every byte is there and the digest is right; ``False`` if stopped before.

        :raises DigestMismatch: it is not.
        :raises BodyAltered: somebody else changed it meanwhile.
        :raises StoreError: the file cannot be read.
        """
        size = self._image.size
        digest = BodyDigest(self._image, self._in_thread)
        while self.hashed < size:
            if self.stopped:
                return False
            reach = self._reach()
            if reach < min(size, self.hashed + _WORTHWHILE):
                await self._grown.wait()
                continue
            if reach >= size and self.stamp is None:
                self.stamp = Stamp.of(fd)
            await digest.read(fd, self.hashed, min(reach, self.hashed + _TURN))
            self.hashed = digest.hashed
        digest.check()
        if self.stamp is not None and not self.stamp.fits(fd):
            raise BodyAltered("a body that was being verified")
        return True


def hash_part(digest: hashlib._Hash, fd: int, position: int, stop: int) -> None:
    """Have ``digest`` take in ``[position, stop)`` of the file; blocks.

    :raises StoreError: the file cannot be read, or is shorter.
    """
    buffer = memoryview(bytearray(min(_BUFFER, stop - position)))
    while position < stop:
        try:
            count = os.preadv(fd, [buffer[: stop - position]], position)
        except OSError as error:
            raise StoreError(f"cannot read a body: {error}") from error
        if count == 0:
            raise StoreError(f"the body file ends at byte {position}")
        digest.update(buffer[:count])
        position += count
