"""Computes a body's digest while the body grows, in a thread that follows the contiguous prefix."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from attrs import define, field

from txglancecache.errors import DigestMismatch, StoreError
from txglancecache.image import Image
from txglancecache.waiting import InThread, Signal

#: The most bytes that one turn in the thread hashes; between turns the verifier can be stopped.
_TURN = 32 << 20
#: Less than this is not worth a turn, unless it is the end of the body.
_WORTHWHILE = 1 << 20
_BUFFER = 1 << 20


@define(eq=False)
class Verifier:
    """Hashes ``image``'s body as far as it has come.

    :param reach: the end of the contiguous prefix of the body, in bytes, now.
    :param grown: fires when it may have moved, or when the verifier was stopped.
    """

    _image: Image
    _reach: Callable[[], int]
    _grown: Signal
    _in_thread: InThread
    hashed: int = field(default=0, init=False)
    stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Have `run` return ``False`` soon."""
        self.stopped = True
        self._grown.fire()

    async def run(self, fd: int) -> bool:
        """Return ``True`` when every byte is there and the digest is right; ``False`` if stopped before.

        :raises DigestMismatch: it is not.
        :raises StoreError: the file cannot be read.
        """
        image = self._image
        digest = hashlib.new(image.algorithm, usedforsecurity=False)
        while self.hashed < image.size:
            if self.stopped:
                return False
            reach = self._reach()
            if reach < min(image.size, self.hashed + _WORTHWHILE):
                await self._grown.wait()
                continue
            stop = min(reach, self.hashed + _TURN)
            await self._in_thread(hash_part, digest, fd, self.hashed, stop)
            self.hashed = stop
        if digest.hexdigest() != image.digest:
            raise DigestMismatch(image.algorithm, image.digest, digest.hexdigest())
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
