"""A body file that is open for as long as somebody needs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from txglancecache.cache.shelf import Shelf
from txglancecache.errors import BodyAltered, StoreError
from txglancecache.store.directory import BodyUnusable, Directory
from txglancecache.store.stamp import Stamp, look_at
from txglancecache.waiting import InThread, Outcome

_T = TypeVar("_T")
_log = Logger()


@define(eq=False)
class Body:
    """The file behind one entry, and how many hold it.

    ``retain`` and ``release`` come in pairs; in between ``opened`` gives the descriptor. The file is
    opened with the first hold, created if it is new. With the last it is put on the shelf, or closed if it
    has been removed. A thread does that: the last close of an unlinked file frees its blocks, which takes
    long.

    ``stamp`` is what the file looked like when its content was known to be right. Once there is one, the file
    must not change any more. ``stays``: it was to go, and would not.

    :param label: kept with a file that is created here, see `Directory.create_body`.
    :param exists: whether the file has been created before.
    """

    name: str
    size: int
    _label: bytes
    _exists: bool
    _directory: Directory
    _in_thread: InThread
    _shelf: Shelf
    stamp: Stamp | None = None
    _holds: int = field(default=0, init=False)
    _opening: Outcome[int] | None = field(default=None, init=False)
    _removed: bool = field(default=False, init=False)
    stays: bool = field(default=False, init=False)
    _under_way: int = field(default=0, init=False)  # removals and closings
    _creating: Lock = field(factory=Lock, init=False)
    on_closed: Callable[[], None] | None = field(default=None, init=False)

    @property
    def held(self) -> bool:
        return self._holds > 0

    @property
    def descriptor(self) -> int | None:
        """The open file; ``None`` while there is none."""
        return None if self._opening is None else self._opening.value

    def retain(self) -> None:
        """Hold the file open, or have it opened."""
        self._holds += 1
        self._shelf.take(self)
        if self._opening is None:
            self._opening = Outcome.of(self._in_thread(self._open))

    def opened(self) -> Deferred[int]:
        """The descriptor; valid until the hold that was taken before is released.

        :raises BodyUnusable: the file cannot be opened, or is another than it was.
        :raises StoreError: it cannot be created.
        """
        assert self._opening is not None
        return self._opening.wait()

    def check(self) -> None:
        """See that the open file is what it was when its content was right; quick enough to do it often.

        :raises BodyAltered: it is not.
        :raises StoreError: nobody can tell.
        """
        if self.stamp is not None and self.descriptor is not None and not self.stamp.fits(self.descriptor):
            raise BodyAltered(f"body {self.name}")

    def look(self, *, right: bool) -> None:
        """See that the open file can be used: somebody may have changed or deleted it since it was opened.

        :param right: its content is known to be right. It is stamped now if it has not been.
        :raises BodyAltered: it is not what it was.
        :raises BodyUnusable: it is gone.
        """
        assert self.descriptor is not None
        if right and self.stamp is None:
            self.stamp = Stamp.of(self.descriptor)
        found = look_at(self.descriptor)
        if self.stamp is not None and not self.stamp.is_of(found):
            raise BodyAltered(f"body {self.name}")
        if found.st_nlink == 0 and not self._removed:
            raise BodyUnusable(self.name, "deleted")

    def still_right(self) -> bool:
        """Whether what was just read of the open file is right, so far as `look` can tell.

        The file is kept open for as long as if it had been held.
        """
        if self.stamp is None or self.descriptor is None:
            return False
        try:
            self.look(right=True)
        except StoreError:
            return False
        if not self.held:
            self._shelf.take(self)
            self._shelf.put(self)
        return True

    def release(self) -> None:
        """Give up one hold."""
        assert self._holds > 0
        self._holds -= 1
        if self._holds == 0:
            if self._removed or self.descriptor is None:
                self.close()
            else:
                self._shelf.put(self)

    def remove(self) -> Deferred[None]:
        """Unlink the file; those who hold it go on. `on_closed` is called when the last is gone.

        :raises StoreError: it stays; this may be tried again.
        """
        there = self._exists or self._opening is not None
        self._removed = True
        return self._left(self._in_thread(self._directory.remove_body, self.name) if there else succeed(None))

    def quarantine(self, keep: int, keep_bytes: int) -> Deferred[None]:
        """Move the file into the quarantine."""
        self._removed = True
        return self._left(self._in_thread(self._directory.quarantine, self.name, keep, keep_bytes))

    def close(self) -> Deferred[None]:
        """Close the file, which nobody holds. Idempotent, never fails."""
        opening, self._opening = self._opening, None
        if opening is None:
            return succeed(None)
        self._under_way += 1
        closed = opening.wait().addCallbacks(self._close, lambda failure: None)
        closed.addErrback(lambda failure: _log.failure("Cannot close {body}", failure, body=self.name))
        return closed.addBoth(self._settled)

    def _left(self, moving: Deferred[_T]) -> Deferred[_T]:
        """Have the file closed once it has lost its place, unless somebody holds it."""
        self._under_way += 1
        moving.addBoth(self._moved)
        if not self.held:
            self._shelf.take(self)
            moving.addBoth(lambda result: self.close().addBoth(lambda _: result))
        return moving.addBoth(self._settled)

    def _open(self) -> int:
        # Who let go before the file was there may still be creating it, in another thread.
        with self._creating:
            try:
                if self._exists:
                    return self._open_again()
                fd = self._directory.create_body(self.name, self.size, self._label)
            except OSError as error:
                raise StoreError(f"cannot create body {self.name}: {error}") from error
            self._exists = True
        if self._removed:
            try:
                self._directory.remove_body(self.name)
            except StoreError:
                os.close(fd)
                raise
        return fd

    def _open_again(self) -> int:
        fd = self._directory.open_body(self.name, self.size)
        if self.stamp is not None and not self.stamp.fits(fd):
            os.close(fd)
            raise BodyAltered(f"body {self.name}")
        return fd

    def _close(self, fd: int) -> Deferred[None]:
        return self._in_thread(os.close, fd)

    def _moved(self, result: _T) -> _T:
        self.stays = isinstance(result, Failure)
        return result

    def _settled(self, result: _T) -> _T:
        self._under_way -= 1
        if self._removed and not (self.held or self._under_way) and self.on_closed is not None:
            tell, self.on_closed = self.on_closed, None
            tell()
        return result
