"""A disk with bad sectors, or one that takes nothing any more: a file that can be put under a loop device.

It is served through FUSE out of another file, so that every request of the block layer comes by here and can
be answered with EIO. What the kernel's own dm-error and dm-flakey do where they are built in, this does
wherever there is FUSE, and while the file system is in use."""

import errno
import fcntl
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path

import pytest
from attrs import define, field

_SECTOR = 512
_MOST = 1 << 20  # bytes in one request
_FIBMAP = 1
_REGULAR = 0o100600

# Of FUSE's protocol what the loop device makes use of.
_HEAD = struct.Struct("=IIQQIIIHH")
_ANSWER = struct.Struct("=IiQ")
_TRANSFER = struct.Struct("=QQIIQII")
_WELCOME = struct.Struct("=IIIIHHIIHHI28x")
_ATTRIBUTES = struct.Struct("=QII 6Q 10I")
_OPENED = struct.Struct("=QII")
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22
_DIRECT_IO = 1


class _Asked(IntEnum):
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    WRITE = 16
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    INTERRUPT = 36
    BATCH_FORGET = 42


_UNANSWERED = (_Asked.FORGET, _Asked.INTERRUPT, _Asked.BATCH_FORGET)


@define(eq=False)
class Device:
    """The file at `path`, of which `backing` has the bytes.

    A sector that is bad cannot be read until it is written: the drive puts another in its place then.
    """

    path: Path
    backing: Path
    #: No write succeeds, and nothing is synced.
    takes_nothing: bool = False
    #: How many requests have failed.
    failed_reads: int = 0
    failed_writes: int = 0
    _bad: set[int] = field(factory=set)
    _fuse: int = -1
    _file: int = -1
    _serving: threading.Thread | None = None

    # what goes wrong

    def spoil(self, path: Path, start: int, stop: int) -> None:
        """Have the sectors under `[start, stop)` of a file go bad; the kernel forgets what it had read of it.

        :param path: a file of the file system that is on this device.
        """
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            size = os.fstatvfs(fd).f_bsize
            for number in range(start // size, -(-stop // size)):
                (block,) = struct.unpack("i", fcntl.ioctl(fd, _FIBMAP, struct.pack("i", number)))
                assert block, f"{path} has a hole at {number * size}"
                self._bad.update(_sectors(block * size, size))
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def mend(self) -> None:
        self.takes_nothing = False
        self._bad.clear()

    # what it is

    def begin(self) -> None:
        self._file = os.open(self.backing, os.O_RDWR)
        self._fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._fuse},rootmode={_REGULAR:o},user_id=0,group_id=0"
        subprocess.run(
            ["mount", "-i", "-t", "fuse", "-o", options, "frail", self.path],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
            pass_fds=[self._fuse],
        )
        self._serving = threading.Thread(target=self._serve, daemon=True, name="device")
        self._serving.start()

    def end(self) -> None:
        """What still uses it gets errors."""
        subprocess.run(["umount", "-l", self.path], capture_output=True, timeout=20)
        if self._serving is not None:
            self._serving.join(20)
        for fd in (self._fuse, self._file):
            if fd >= 0:
                os.close(fd)

    def _serve(self) -> None:
        buffer = bytearray(2 * _MOST)
        view = memoryview(buffer)
        while True:
            try:
                count = os.readv(self._fuse, [buffer])
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return  # it is unmounted
            _, asked, number, *_ = _HEAD.unpack_from(buffer)
            if asked in _UNANSWERED:
                continue
            try:
                answer, failure = self._answer(asked, view[_HEAD.size : count]), 0
            except OSError as error:
                answer, failure = b"", -(error.errno or errno.EIO)
            with suppress(FileNotFoundError):  # whoever asked was interrupted
                os.writev(self._fuse, [_ANSWER.pack(_ANSWER.size + len(answer), failure, number), answer])

    def _answer(self, asked: int, told: memoryview) -> bytes:
        match asked:
            case _Asked.INIT:
                _, _, ahead = struct.unpack_from("=III", told)
                flags = _BIG_WRITES | _MAX_PAGES
                return _WELCOME.pack(7, 31, ahead, flags, 16, 12, _MOST, 1, _MOST // 4096, 0, 0)
            case _Asked.GETATTR:
                size = os.fstat(self._file).st_size
                times, owner = [0] * 6, [0] * 3
                return _ATTRIBUTES.pack(60, 0, 0, 1, size, size // 512, *times, _REGULAR, 1, *owner, 4096, 0)
            case _Asked.OPEN:
                return _OPENED.pack(0, _DIRECT_IO, 0)
            case _Asked.READ:
                _, start, count, *_ = _TRANSFER.unpack_from(told)
                return self._read(start, count)
            case _Asked.WRITE:
                _, start, count, *_ = _TRANSFER.unpack_from(told)
                return self._write(start, told[_TRANSFER.size :][:count])
            case _Asked.FSYNC:
                return self._sync()
            case _Asked.FLUSH | _Asked.RELEASE:
                return b""
        raise OSError(errno.ENOSYS, "no such thing here")

    def _read(self, start: int, count: int) -> bytes:
        if not self._bad.isdisjoint(_sectors(start, count)):
            self.failed_reads += 1
            raise OSError(errno.EIO, "bad sectors")
        return os.pread(self._file, count, start)

    def _write(self, start: int, data: memoryview) -> bytes:
        self._refuse_if_it_takes_nothing()
        self._bad.difference_update(_sectors(start, len(data)))
        return struct.pack("=II", os.pwrite(self._file, data, start), 0)

    def _sync(self) -> bytes:
        self._refuse_if_it_takes_nothing()
        os.fdatasync(self._file)
        return b""

    def _refuse_if_it_takes_nothing(self) -> None:
        if self.takes_nothing:
            self.failed_writes += 1
            raise OSError(errno.EIO, "it takes nothing")


def _sectors(start: int, count: int) -> range:
    return range(start // _SECTOR, -(-(start + count) // _SECTOR))


@contextmanager
def device(home: Path, size: int) -> Iterator[Device]:
    """A device of `size` bytes, its files under `home`; skips the test where there cannot be one."""
    home.mkdir(parents=True, exist_ok=True)
    made = Device(home / "device", home / "platter")
    for path in (made.path, made.backing):
        with path.open("wb") as file:
            file.truncate(size)
    try:
        made.begin()
    except (OSError, subprocess.CalledProcessError) as error:
        made.end()
        said = getattr(error, "stderr", "") or error
        pytest.skip(f"a disk with bad sectors takes root and FUSE: {said}")
    try:
        yield made
    finally:
        made.end()
