"""The cache directory: its lock, its body files and the quarantine.

Everything here blocks and belongs into a thread, apart from ``open`` and ``close`` at the two ends of
the process. It knows names and files; which of them are worth keeping is decided elsewhere.

::

    <cache-dir>/            0700
      lock                  held with flock(2) as long as the process lives
      index.*               see `txglancecache.store.index`
      bodies/<xx>/<name>    sparse body files, 0600; <xx> are the first two characters of the name
      quarantine/<name>     bodies that failed verification
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from attrs import define, field, frozen
from twisted.logger import Logger

from txglancecache.errors import DirectoryLocked, Exhausted, StoreError, StoreUnusable
from txglancecache.extents import Extents
from txglancecache.store.allocation import give_back

_log = Logger()

#: What is wrong with this process or this machine for the moment, not with a file.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

#: The extended attribute that says what a body file holds, so that a lost index can be rebuilt.
_LABEL = "user.txglancecache"


@frozen
class BodyFile:
    """One body file as it was found.

    ``allocated`` is what it takes on disk, in bytes; ``size`` is the length that ``stat`` reports.
    """

    name: str
    size: int
    allocated: int


@frozen
class QuarantinedBody:
    """One body in quarantine. ``time`` is when it came there, in seconds since the epoch."""

    name: str
    size: int
    allocated: int
    time: float
    label: bytes | None


@define(eq=False)
class Directory:
    """An open cache directory, owned by this process until it is closed."""

    path: Path
    _lock: int = field(alias="_lock")
    #: Directories of bodies whose names are on disk.
    _shards: set[str] = field(factory=set, init=False)
    _making: Lock = field(factory=Lock, init=False)
    #: Bytes on disk that the quarantine takes, as far as is known.
    quarantine_size: int = field(default=0, init=False)
    _quarantining: Lock = field(factory=Lock, init=False)

    @classmethod
    def open(cls, path: Path) -> Directory:
        """Create what is missing below ``path`` and take the lock.

        The lock is held with ``flock``, which a daemonizing fork inherits.

        :raises StoreUnusable: the directory cannot be created, entered or written, or others can have put
            things into it.
        :raises DirectoryLocked: another process has it.
        """
        path = Path(os.path.abspath(path))
        try:
            _make(path)
            _refuse_strangers(path)
            path.chmod(0o700)
            _refuse_strangers_in(path)
        except OSError as error:
            raise StoreUnusable(str(path), error.strerror or str(error)) from error
        directory = cls(path, _lock(path, os.O_RDWR | os.O_CREAT))
        try:
            directory._make_folders()
        except OSError as error:
            directory.close()
            raise StoreUnusable(str(path), error.strerror or str(error)) from error
        return directory

    @classmethod
    def open_as_it_is(cls, path: Path) -> Directory:
        """Take the lock of a directory that is there, to look at it: nothing is created or changed.

        :raises StoreUnusable: there is no cache directory, or it cannot be entered.
        :raises DirectoryLocked: another process has it.
        """
        path = Path(os.path.abspath(path))
        return cls(path, _lock(path, os.O_RDONLY))

    def close(self) -> None:
        """Give the lock back. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def index_path(self) -> Path:
        return self.path / "index.sqlite"

    @property
    def bodies_path(self) -> Path:
        return self.path / "bodies"

    @property
    def quarantine_path(self) -> Path:
        return self.path / "quarantine"

    def body_path(self, name: str) -> Path:
        return self.bodies_path / name[:2] / name

    def create_body(self, name: str, size: int, label: bytes) -> int:
        """Create the sparse body file ``name`` of ``size`` bytes and return a descriptor for it.

        The file and its name are on disk when this returns, so that an index row may speak of it.
        ``label`` goes into an extended attribute, where the file system has them.

        :raises StoreError: the directory has been removed, and cannot be made anew.
        :raises OSError: the file cannot be created.
        """
        path = self.body_path(name)
        if not path.parent.exists():
            self._make_anew()
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._shards.discard(path.parent.name)
        if path.parent.name not in self._shards:
            # Whoever else has just made it may not have synced it yet.
            sync_directory(self.bodies_path)
            self._shards.add(path.parent.name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, size)
            try:
                os.setxattr(fd, _LABEL, label)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.ENOSPC, errno.E2BIG):
                    raise
            os.fsync(fd)
            sync_directory(path.parent)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return fd

    def open_body(self, name: str, size: int) -> int:
        """Open the body file ``name`` for reading, and for writing unless its file system is read-only.

        :raises BodyUnusable: it is gone, or its length is not ``size``: somebody else changed it.
        :raises Exhausted: there is no descriptor left for it.
        """
        try:
            fd = _open_file(self.body_path(name))
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise Exhausted(f"cannot open body {name}: {error.strerror}") from error
            raise BodyUnusable(name, error.strerror or str(error)) from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            os.close(fd)
            regular = stat.S_ISREG(found.st_mode)
            reason = f"{found.st_size} bytes long instead of {size}" if regular else "no regular file"
            raise BodyUnusable(name, reason)
        return fd

    def empty_gaps(self, name: str, gaps: Extents) -> None:
        """Have ``gaps`` of the body file take no room on disk, where the file system can do that.

        :raises StoreError: the file cannot be opened.
        """
        try:
            fd = _open_file(self.body_path(name))
        except OSError as error:
            raise BodyUnusable(name, error.strerror or str(error)) from error
        try:
            for start, stop in gaps:
                give_back(fd, start, stop - start)
        finally:
            os.close(fd)

    def body_label(self, name: str) -> bytes | None:
        """What `create_body` was told that the file holds, or ``None`` where that was not kept."""
        return _label(self.body_path(name))

    def remove_body(self, name: str) -> None:
        """Unlink the body file; one that is gone already is fine.

        :raises StoreError: it cannot be removed.
        """
        try:
            self.body_path(name).unlink(missing_ok=True)
        except OSError as error:
            raise BodyUnusable(name, f"cannot be removed: {error.strerror}") from error

    def bodies(self) -> Iterator[BodyFile]:
        """Every body file there is, in no order."""
        return _files(self.bodies_path)

    def quarantine(self, name: str, keep: int, keep_bytes: int) -> None:
        """Move a body out of the way, and keep the newest of those put there.

        :param keep: the most files to keep.
        :param keep_bytes: the most bytes on disk that the kept ones may take together.
        """
        with self._quarantining:
            os.replace(self.body_path(name), self.quarantine_path / name)
            os.utime(self.quarantine_path / name)
            self._trim_quarantine(keep, keep_bytes)

    def trim_quarantine(self, keep: int, keep_bytes: int) -> None:
        """Keep the newest bodies there, within the bounds that `quarantine` has."""
        with self._quarantining:
            self._trim_quarantine(keep, keep_bytes)

    def _trim_quarantine(self, keep: int, keep_bytes: int) -> None:
        kept = 0
        newest_first = sorted(self.quarantined(), key=lambda body: -body.time)
        for rank, body in enumerate(newest_first):
            if rank < keep and kept + body.allocated <= keep_bytes:
                kept += body.allocated
            else:
                (self.quarantine_path / body.name).unlink(missing_ok=True)
        self.quarantine_size = kept

    def quarantined(self) -> list[QuarantinedBody]:
        """The bodies in quarantine."""
        found = []
        for entry in os.scandir(self.quarantine_path):
            with suppress(FileNotFoundError):  # it may be on its way out
                status = entry.stat(follow_symlinks=False)
                found.append(
                    QuarantinedBody(
                        entry.name,
                        status.st_size,
                        status.st_blocks * 512,
                        status.st_mtime,
                        _label(entry.path),
                    )
                )
        return found

    def clear_quarantine(self) -> list[QuarantinedBody]:
        """Delete every body in quarantine; returns what there was."""
        with self._quarantining:
            found = self.quarantined()
            for body in found:
                (self.quarantine_path / body.name).unlink(missing_ok=True)
            self.quarantine_size = 0
        return found

    def free(self) -> int:
        """Bytes that an unprivileged process may still write to this file system.

        :raises StoreError: it cannot be asked.
        """
        try:
            if not self.path.exists():
                self._make_anew()
            status = os.statvfs(self.path)
        except OSError as error:
            raise StoreUnusable(str(self.path), error.strerror or str(error)) from error
        return status.f_bavail * status.f_frsize

    def _make_anew(self) -> None:
        """Make what somebody has removed of the directory while it was in use, and take its new lock.

        :raises StoreUnusable: another file system is in its place.
        :raises DirectoryLocked: another process has made it anew.
        :raises OSError: it cannot be made.
        """
        with self._making:
            if not self._is_ours():
                there = next(parent for parent in (self.path, *self.path.parents) if parent.exists())
                if there.stat().st_dev != os.fstat(self._lock).st_dev:
                    raise StoreUnusable(str(self.path), "its file system has gone")
                _make(self.path)
                lock = _lock(self.path, os.O_RDWR | os.O_CREAT)
                os.close(self._lock)
                self._lock = lock
                _log.error("Made the cache directory {path} anew: it had been removed", path=str(self.path))
            self._make_folders()

    def _is_ours(self) -> bool:
        """Whether the lock that is there is the one that is held."""
        try:
            return os.path.samestat(os.stat(self.path / "lock"), os.fstat(self._lock))
        except FileNotFoundError:
            return False

    def _make_folders(self) -> None:
        for folder in (self.bodies_path, self.quarantine_path):
            folder.mkdir(mode=0o700, exist_ok=True)


def _make(path: Path) -> None:
    """Create a directory, unless it is there."""
    # Whatever the umask: who can write to a directory can put another in place of what is in it.
    for parent in reversed(path.parents):
        parent.mkdir(mode=0o755, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)


def _open_file(path: Path) -> int:
    # What somebody put there instead may be a pipe, which would have us wait.
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | flags)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | flags)


@define(eq=False)
class BodyUnusable(StoreError):
    """A body file is not what the index says it is."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"body {self.name}: {self.reason}"


def _refuse_strangers(path: Path, *, linked: bool = True) -> None:
    """
    :param linked: whether it may be a symbolic link to what is ours.
    :raises StoreUnusable: it is not ours.
    """
    status = path.stat() if linked else path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise StoreUnusable(str(path), "it is a symbolic link, and nothing in a cache directory is")
    if status.st_uid != os.geteuid():
        raise StoreUnusable(str(path), f"it belongs to another user, number {status.st_uid}")


def _refuse_strangers_in(path: Path) -> None:
    """See to it that nobody has put anything there while it was open to others, which it is no more.

    :raises StoreUnusable: somebody has.
    """
    names = ("lock", "index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "bodies", "quarantine")
    for found in (path / name for name in names):
        if os.path.lexists(found):
            _refuse_strangers(found, linked=False)
    if (path / "bodies").is_dir():
        for shard in (path / "bodies").iterdir():
            _refuse_strangers(shard, linked=False)


def _lock(path: Path, flags: int) -> int:
    """Take the lock of the directory ``path``; returns the descriptor that holds it."""
    try:
        lock = os.open(path / "lock", flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(str(path), error.strerror or str(error)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise DirectoryLocked(str(path)) from None
        raise StoreUnusable(str(path), error.strerror or str(error)) from error
    return lock


def _label(path: str | Path) -> bytes | None:
    try:
        return os.getxattr(path, _LABEL)
    except OSError:
        return None


def _files(root: Path) -> Iterator[BodyFile]:
    for shard in os.scandir(root):
        if shard.is_dir(follow_symlinks=False):
            for entry in os.scandir(shard):
                if entry.is_file(follow_symlinks=False):
                    yield _body_file(entry)


def _body_file(entry: os.DirEntry[str]) -> BodyFile:
    status = entry.stat(follow_symlinks=False)
    return BodyFile(entry.name, status.st_size, status.st_blocks * 512)


def sync_directory(path: Path) -> None:
    """Have the names in a directory, and those that are gone from it, on disk; blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
