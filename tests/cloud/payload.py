"""Image bodies of any size that nobody has to store: any part of one can be computed, and no two parts are
alike."""

import hashlib
import random
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

MIB = 2**20
GIB = 2**30


class Body(Protocol):
    """What an image can be made of."""

    @property
    def size(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


@frozen
class FileBody:
    """The content of a small file."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        yield self.path.read_bytes()


@frozen
class Payload:
    """`size` bytes that follow from `seed`: one random block over and over, each time with its own number in
    front."""

    size: int
    seed: int = 0
    _block: bytes = field(init=False, repr=False, eq=False)

    @_block.default
    def _make_block(self) -> bytes:
        return random.Random(self.seed).randbytes(MIB)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes of [start, stop) in pieces of at most a MiB."""
        end = self.size if stop is None else min(stop, self.size)
        while start < end:
            number, offset = divmod(start, MIB)
            last = offset + end - start
            piece = number.to_bytes(8, "big")[offset:last] + self._block[max(offset, 8) : last]
            yield piece
            start += len(piece)

    def part(self, start: int, stop: int) -> bytes:
        return b"".join(self.chunks(start, stop))

    @property
    def data(self) -> bytes:
        return self.part(0, self.size)

    def hash_of(self, start: int, stop: int) -> str:
        """The sha512 of [start, stop)."""
        digest = hashlib.sha512()
        for chunk in self.chunks(start, stop):
            digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def sha512(self) -> str:
        return self.hash_of(0, self.size)
