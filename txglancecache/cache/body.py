"""A body file that is open for as long as somebody needs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from txglancecache.errors import StoreError
from txglancecache.store.directory import Directory
from txglancecache.waiting import InThread, Outcome


@define(eq=False)
class Body:
    """The file behind one entry, and how many hold it.

    ``retain`` and ``release`` come in pairs; in between ``opened`` gives the descriptor. The file is
    opened with the first hold, created if it is new, and closed in a thread with the last: the last
    close of an unlinked file frees its blocks, which takes long.

    :param label: kept with a file that is created here, see `Directory.create_body`.
    :param exists: whether the file has been created before.
    """

    name: str
    size: int
    _label: bytes
    _exists: bool
    _directory: Directory
    _in_thread: InThread
    _holds: int = field(default=0, init=False)
    _opening: Outcome[int] | None = field(default=None, init=False)
    _removed: bool = field(default=False, init=False)
    _creating: Lock = field(factory=Lock, init=False)
    on_closed: Callable[[], None] | None = field(default=None, init=False)

    @property
    def held(self) -> bool:
        return self._holds > 0

    def retain(self) -> None:
        """Hold the file open, or have it opened."""
        self._holds += 1
        if self._opening is None:
            self._opening = Outcome.of(self._in_thread(self._open))

    def opened(self) -> Deferred[int]:
        """The descriptor; valid until the hold that was taken before is released.

        :raises StoreError: the file cannot be opened or created.
        """
        assert self._opening is not None
        return self._opening.wait()

    def release(self) -> None:
        """Give up one hold."""
        assert self._holds > 0
        self._holds -= 1
        if self._holds == 0:
            opening, self._opening = self._opening, None
            assert opening is not None
            opening.wait().addCallbacks(self._close, lambda failure: None).addBoth(self._tell_closed)

    def remove(self) -> Deferred[None]:
        """Unlink the file; those who hold it go on. `on_closed` is called when the last is gone."""
        self._removed = True
        there = self._exists or self._opening is not None
        done = self._in_thread(self._directory.remove_body, self.name) if there else succeed(None)
        if not self.held:
            done.addBoth(self._tell_closed)
        return done

    def quarantine(self, keep: int, keep_bytes: int) -> Deferred[int]:
        """Move the file into the quarantine; returns the bytes that the quarantine now takes on disk."""
        self._removed = True
        moved = self._in_thread(self._directory.quarantine, self.name, keep, keep_bytes)
        if not self.held:
            moved.addBoth(self._tell_closed)
        return moved

    def _open(self) -> int:
        # Who let go before the file was there may still be creating it, in another thread.
        with self._creating:
            try:
                if self._exists:
                    return self._directory.open_body(self.name, self.size)
                fd = self._directory.create_body(self.name, self.size, self._label)
            except OSError as error:
                raise StoreError(f"cannot create body {self.name}: {error}") from error
            self._exists = True
        if self._removed:
            self._directory.remove_body(self.name)
        return fd

    def _close(self, fd: int) -> Deferred[None]:
        return self._in_thread(os.close, fd)

    def _tell_closed(self, result: object) -> object:
        if self._removed and not self.held and self.on_closed is not None:
            tell, self.on_closed = self.on_closed, None
            tell()
        return result
