"""The cache as its operators see it: what is there, and what they may do with it."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from attrs import asdict, define, evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from txglancecache.cache.cache import Cache
from txglancecache.cache.entry import Entry
from txglancecache.cache.events import EventLog
from txglancecache.cache.roster import Slot
from txglancecache.cache.status import CacheStatus, EntryStatus, Freed, QuarantineFile, ReaderStatus
from txglancecache.cache.verify import Verifier
from txglancecache.errors import DigestMismatch, EntryDropped, JobFailed, StoreError
from txglancecache.store.directory import Directory
from txglancecache.store.index import Index
from txglancecache.waiting import InThread, Outcome, Signal

_log = Logger()


@define(eq=False)
class Steward:
    """Tells, and does, what the management site is asked for."""

    _cache: Cache
    _directory: Directory
    _index: Index
    _disk: InThread
    _hash: InThread

    # -- telling ---------------------------------------------------------------------------------

    @property
    def events(self) -> EventLog:
        return self._cache.events

    def status(self) -> CacheStatus:
        """The whole cache, now."""
        room, roster = self._cache.roster.room, self._cache.roster
        return CacheStatus(
            entries=len(roster),
            bytes_on_disk=room.written,
            reserved=room.charged - room.written,
            max_size=room.max_size,
            min_free=room.min_free,
            disk_free=room.disk_free,
            quarantined=self._cache.quarantine.size,
            counters=asdict(self._cache.counters),
            fills=sum(not entry.dropped for entry in roster.fills),
        )

    def entries(self) -> Iterator[EntryStatus]:
        """Every image. There may be many: whoever goes through them may let the reactor turn meanwhile."""
        return (_status(slot) for slot in self._cache.roster if not slot.entry.dropped)

    def entry(self, image_id: str) -> EntryStatus | None:
        """One image, with those who read it."""
        slot = self._slot(image_id)
        if slot is None:
            return None
        readers = tuple(
            ReaderStatus(reader.position, reader.start, reader.stop, reader.whole)
            for reader in slot.entry.readers
        )
        return evolve(_status(slot), reader_list=readers)

    async def quarantined(self) -> list[QuarantineFile]:
        """The bodies in quarantine."""
        return await self._cache.quarantine.files()

    # -- doing -----------------------------------------------------------------------------------

    async def purge(self, image_id: str) -> bool:
        """Drop one image; ``False`` if it is not there. Returns when its row and file are gone."""
        return await self.purge_many([image_id]) == 1

    async def purge_all(self) -> int:
        """Drop every image; returns how many there were. What is being prefetched is begun anew.

        :raises StoreError: a file would not go; all the others have, and no image is found any more.
        """
        orphans = Outcome.of(Deferred.fromCoroutine(self._cache.purge_orphans()))
        entries = [slot.entry for slot in self._cache.roster]
        return await self._purge(entries, orphans, EntryDropped("the image was purged"))

    async def purge_many(self, image_ids: Sequence[str]) -> int:
        """Drop those of these images that are there; returns how many were. Their prefetches end.

        :raises StoreError: a file would not go; all the others have, and none of them is found any more.
        """
        orphans = Outcome.of(Deferred.fromCoroutine(self._cache.purge_orphans(image_ids)))
        slots = [self._slot(image_id) for image_id in image_ids]
        entries = [slot.entry for slot in slots if slot is not None]
        return await self._purge(entries, orphans, JobFailed("the image was purged meanwhile"))

    def pin(self, image_id: str) -> bool:
        """Never evict the image; ``False`` if it is not there."""
        return self._set_pinned(image_id, True)

    def unpin(self, image_id: str) -> bool:
        """Let the image be evicted again; ``False`` if it is not there."""
        return self._set_pinned(image_id, False)

    async def prune(self, target: int | None = None) -> Freed:
        """Evict until the cache takes at most ``target`` bytes, or until its limits hold."""
        evictions, charged = self._cache.counters.evictions, self._cache.roster.room.charged
        await self._cache.roster.room.trim(target)
        freed = max(0, charged - self._cache.roster.room.charged)
        return Freed(self._cache.counters.evictions - evictions, freed)

    async def clean(self) -> Freed:
        """Remove incomplete bodies that nobody reads or fills, and files that belong to no entry.

        :raises StoreError: a file would not go; all the others have.
        """
        entries: list[Entry] = []

        def look_at(slots: list[Slot]) -> None:
            entries.extend(
                slot.entry
                for slot in slots
                if slot.entry.idle and not (slot.entry.finished or slot.entry.pinned)
            )

        await self._cache.batches.each(self._cache.roster, look_at)
        freed = sum(entry.account.charged.total for entry in entries)
        failures: list[StoreError] = []
        removed = await _to_the_end(
            self._remove(entries, EntryDropped("the image was cleaned away"), failures)
        )
        files = await self._disk(lambda: list(self._directory.bodies()))
        # Asked for after the listing: a file that came since then is not in it.
        known = {
            slot.entry.body.name for slot in [*self._cache.roster, *self._cache.roster.leaving]
        } | self._cache.orphan_names
        for file in files:
            if file.name not in known:
                try:
                    await self._disk(self._directory.remove_body, file.name)
                except StoreError as error:
                    failures.append(error)
                    continue
                self._cache.roster.gone(file.name)
                removed, freed = removed + 1, freed + file.allocated
        if failures:
            raise failures[0]
        return Freed(removed, freed)

    async def clear_quarantine(self) -> Freed:
        """Delete the bodies in quarantine."""
        return await self._cache.quarantine.clear()

    async def verify(self, entry: Entry, verifier: Verifier) -> None:
        """Hash a complete body again; may be cancelled.

        :raises DigestMismatch: it is not right any more; it has been quarantined, its readers aborted.
        :raises StoreError: the file cannot be read; the entry has been dropped.
        """
        entry.body.retain()
        try:
            running = Outcome.of(Deferred.fromCoroutine(verifier.run(await entry.body.opened())))
            try:
                await running.wait()
            except CancelledError:
                # A thread is using the file, which is held no longer than this call.
                verifier.stop()
                await running.wait()
                raise
        except DigestMismatch as error:
            entry.abort(error)
            self._cache.fill_mismatch(entry, error)
            raise
        except StoreError as error:
            entry.abort(error)
            self._cache.disk_failed(entry, error)
            raise
        finally:
            entry.body.release()
        entry.body.stamp = verifier.stamp
        self.events.note("verified", entry.image.image_id)

    def verifier(self, entry: Entry) -> Verifier:
        """What hashes the whole of an entry's body."""
        return Verifier(entry.image, lambda: entry.image.size, Signal(), self._hash)

    # -- inside ----------------------------------------------------------------------------------

    def _slot(self, image_id: str) -> Slot | None:
        return self._cache.roster.find(self._cache.key(image_id))

    async def _purge(self, entries: Sequence[Entry], orphans: Outcome[None], told: Exception) -> int:
        """
        :param told: what is said to those who are prefetching one of them.
        """
        failures: list[StoreError] = []
        count = await _to_the_end(self._remove(entries, told, failures))
        try:
            await orphans.wait()
        except StoreError as error:
            failures.append(error)
        if failures:
            raise failures[0]
        return count

    async def _remove(self, entries: Sequence[Entry], told: Exception, failures: list[StoreError]) -> int:
        """Remove those that are still there; returns how many were. ``failures`` tells of files that stay."""
        count = 0

        async def remove(batch: list[Entry]) -> None:
            nonlocal count
            count += await self._remove_batch(batch, told, failures)

        await self._cache.batches.each(entries, remove)
        return count

    async def _remove_batch(self, entries: list[Entry], told: Exception, failures: list[StoreError]) -> int:
        purged = [entry for entry in entries if self._cache.roster.remove(entry)]
        self._cache.counters.purges += len(purged)
        for entry in purged:
            self.events.note("purged", entry.image.image_id)
            for reader in list(entry.readers):
                if reader.for_cache:
                    reader.fail(told, abort=True)
        removals = [Outcome.of(entry.body.remove()) for entry in purged]
        await self._index.flush()
        for removal in removals:
            try:
                await removal.wait()
            except StoreError as error:
                _log.warn("A file stays behind: {error}", error=str(error))
                failures.append(error)
        return len(purged)

    def _set_pinned(self, image_id: str, pinned: bool) -> bool:
        slot = self._slot(image_id)
        if slot is None:
            return False
        entry = slot.entry
        if entry.pinned != pinned:
            entry.pinned = pinned
            self._index.put(entry.record())
            self.events.note("pinned" if pinned else "unpinned", image_id)
        return True


def _to_the_end(removing: Coroutine[Any, Any, int]) -> Deferred[int]:
    """To be cancelled does not end it: the operator may leave, the files must not stay."""
    return Outcome.of(Deferred.fromCoroutine(removing)).wait()


def _status(slot: Slot) -> EntryStatus:
    status = slot.entry.status()
    return evolve(status, sources=slot.work.fill.sources, rate=slot.work.fill.rate) if slot.begun else status
