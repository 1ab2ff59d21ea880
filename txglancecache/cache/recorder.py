"""Brings an entry's extents into the index, never before their bytes are on disk."""

from __future__ import annotations

import os
from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txglancecache.cache.entry import Entry
from txglancecache.errors import Exhausted, StoreError
from txglancecache.store.index import Index
from txglancecache.waiting import InThread, Semaphore

_log = Logger()

#: Seconds after the first unrecorded byte at which it is synced and recorded.
_INTERVAL = 2.0


@define(eq=False)
class Recorder:
    """Syncs one entry's file now and then, and records what that made durable.

    :param failed: told when the file was altered, or cannot be synced. What is in it by then may never come
        to the disk, and the kernel may forget it at any time: the entry cannot go on.
    """

    _entry: Entry
    _index: Index
    _clock: IReactorTime
    _in_thread: InThread
    _failed: Callable[[StoreError], None]
    _timer: IDelayedCall | None = field(default=None, init=False)
    _lock: Semaphore = field(factory=Semaphore, init=False)

    def note_growth(self) -> None:
        """There are bytes in the file that the index does not know of."""
        if self._timer is None:
            self._timer = self._clock.callLater(_INTERVAL, self._on_time)

    async def settle(self) -> None:
        """Record what is there now; returns when the row has been handed to the index."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        async with self._lock:
            await self._record()

    def cancel(self) -> None:
        """The entry has left the cache: nothing is to be recorded any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self.settle()).addErrback(
            lambda failure: _log.failure("Recording {key} failed", failure, key=self._entry.key)
        )

    async def _record(self) -> None:
        entry = self._entry
        extents = entry.extents
        if entry.dropped:
            return
        if extents != entry.durable:
            entry.body.retain()
            try:
                # Not only the data: the stamp is of times that have to be on disk too.
                await self._in_thread(os.fsync, await entry.body.opened())
            except Exhausted:
                self.note_growth()
                return
            except (OSError, StoreError) as error:
                self._failed(StoreError(f"cannot sync body {entry.body.name}: {error}"))
                return
            finally:
                entry.body.release()
        if entry.verified:
            try:
                entry.body.check()
            except StoreError as error:
                self._failed(error)
                return
        if not entry.dropped:
            entry.durable = extents
            self._index.put(entry.record())
