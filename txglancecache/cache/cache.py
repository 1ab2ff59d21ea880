"""The cache: which entries there are, who may join them, and who has to go.

The one door for the sites above: they find or admit an entry, open readers on it, and drop it. It knows
no HTTP server.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache, partial

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from txglancecache.batches import Batches
from txglancecache.cache.body import Body
from txglancecache.cache.entry import DigestCheck, Entry
from txglancecache.cache.events import EventLog
from txglancecache.cache.fill import Fill, FillSettings
from txglancecache.cache.quarantine import Quarantine
from txglancecache.cache.readable import FileReactor
from txglancecache.cache.reader import Reader
from txglancecache.cache.recorder import Recorder
from txglancecache.cache.recovery import Orphans, label, reconcile
from txglancecache.cache.room import Room
from txglancecache.cache.roster import Roster, Slot, Work
from txglancecache.cache.shelf import Shelf
from txglancecache.cache.source import Source
from txglancecache.cache.status import Counters
from txglancecache.errors import BodyAltered, DigestMismatch, EntryDropped, Exhausted, StoreError
from txglancecache.eviction import Policy
from txglancecache.extents import Extents
from txglancecache.image import Image
from txglancecache.sizes import format_size
from txglancecache.store.directory import BodyUnusable, Directory
from txglancecache.store.index import Index
from txglancecache.store.schema import Record
from txglancecache.store.stamp import Stamp
from txglancecache.waiting import InThread

_log = Logger()

#: Seconds between two looks at whether the limits still hold: others write to the disk too.
_TRIM_INTERVAL = 10.0
#: The part of the room that bodies in quarantine may take.
_QUARANTINE_PART = 10


@lru_cache(256)  # few, since names may be as long as clients like
def _key(origin: str, image_id: str) -> str:
    return hashlib.sha256(f"{origin}\n{image_id}".encode()).hexdigest()[:40]


@frozen
class CacheSettings:
    """What bounds the cache. Sizes are in bytes."""

    max_size: int
    min_free: int
    max_entries: int = 100_000
    quarantine_files: int = 4
    digest_check: DigestCheck = DigestCheck.BEFORE
    fill: FillSettings = field(factory=FillSettings)

    @property
    def quarantine_bytes(self) -> int:
        """The most that bodies in quarantine may take on disk."""
        return self.max_size // _QUARANTINE_PART


@frozen
class Threads:
    """Where blocking work is done: short disk calls, transfers that last, and hashing."""

    disk: InThread
    fill: InThread
    hash: InThread


@define(eq=False)
class Cache:
    """The entries of one cache directory, for one origin.

    :param origin: the origin's URL; part of each key.
    :param wall: the time of day, in seconds since the epoch.
    """

    origin: str
    _directory: Directory
    _index: Index
    _reactor: FileReactor
    threads: Threads
    _policy: Policy
    settings: CacheSettings
    _wall: Callable[[], float] = time.time
    counters: Counters = field(factory=Counters, init=False)
    roster: Roster = field(init=False)
    batches: Batches = field(init=False)
    events: EventLog = field(init=False)
    _room: Room = field(init=False)
    shelf: Shelf = field(init=False)
    quarantine: Quarantine = field(init=False)
    _orphans: Orphans = field(init=False)
    _recovering: Deferred[None] | None = field(default=None, init=False)
    _disk_failing: bool = field(default=False, init=False)
    _trimming: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.roster = Roster(
            self._index,
            self._policy,
            self.counters,
            self.settings.max_size,
            self.settings.min_free,
            self.settings.max_entries,
            lambda: self.threads.disk(self._directory.free),
            self._evicted,
        )
        self._room = self.roster.room
        self.batches = Batches(self._reactor)
        self.shelf = Shelf(self._reactor)
        self.events = EventLog(self._wall)
        self.quarantine = Quarantine(
            self._directory,
            self.threads.disk,
            self._room,
            self.settings.quarantine_files,
            self.settings.quarantine_bytes,
        )
        self._trimming = LoopingCall(lambda: Deferred.fromCoroutine(self._trim()))
        self._trimming.clock = self._reactor

    # -- the beginning and the end ---------------------------------------------------------------

    def load(self) -> None:
        """Read the index and look at what is on disk; blocks, and comes before everything else.

        A row without its file, or with another's, is dropped; a file without a row is an orphan, which
        `start` sees to.
        """
        records = self._index.load()
        self._index.on_lost(self._put_all)
        found = reconcile(records, self._directory.bodies(), self.origin)
        for key in found.forgotten:
            self._index.delete(key)
        for record in found.records:
            self._restore(record)
        for record in found.bloated:
            # What it holds unrecorded is fetched again, and would count for nothing until then.
            try:
                self._directory.empty_gaps(record.body, record.extents.gaps(0, record.size))
            except StoreError as error:
                _log.warn("Unrecorded bytes stay on disk: {error}", error=str(error))
        self._orphans = Orphans(
            found.orphans,
            self.origin,
            self._directory,
            self._room,
            rebuilding=self._index.rebuilding,
            disk=self.threads.disk,
            hash=self.threads.hash,
        )
        self.quarantine.load()
        if found.forgotten:
            _log.warn(
                "Forgot {count} entries of another origin, or without a usable file",
                count=len(found.forgotten),
            )
        _log.info(
            "{entries} entries, {size} on disk, {orphans} files without an entry in {path}",
            entries=len(self.roster),
            size=format_size(self._room.charged),
            orphans=len(found.orphans),
            path=str(self._directory.path),
        )

    def start(self) -> None:
        """Begin the work that goes on by itself: keeping the limits, and seeing to orphans."""
        self._trimming.start(_TRIM_INTERVAL, now=False)
        self._recovering = Deferred.fromCoroutine(self._see_to_orphans())
        self._recovering.addErrback(lambda failure: _log.failure("Cannot see to orphaned bodies", failure))

    async def close(self) -> None:
        """Stop every fill, record what is there, and close the index and the directory."""
        self._orphans.stop()
        if self._trimming.running:
            self._trimming.stop()
        if self._recovering is not None:
            await self._recovering
        begun = [slot for slot in [*self.roster, *self.roster.leaving] if slot.begun]
        for slot in begun:
            await slot.work.fill.stop()
        for slot in begun:
            await slot.work.recorder.settle()
        await self.shelf.clear()
        await self._index.close()
        self._directory.close()

    # -- what the data site does -----------------------------------------------------------------

    @property
    def orphan_names(self) -> frozenset[str]:
        """The files without an entry that are still to be looked at."""
        return self._orphans.names

    async def purge_orphans(self, image_ids: Collection[str] | None = None) -> None:
        """Delete the files without an entry that hold one of these images, or any; none becomes an entry."""
        keys = None if image_ids is None else {self.key(image_id) for image_id in image_ids}
        await self._orphans.purge(lambda name: keys is None or name.partition(".")[0] in keys)

    def key(self, image_id: str) -> str:
        """The name under which the cache keeps an image of its origin."""
        return _key(self.origin, image_id)

    def find(self, image_id: str) -> Entry | None:
        """The entry for an image, complete or not."""
        slot = self.roster.find(self.key(image_id))
        return slot.entry if slot else None

    def still_right(self, entry: Entry) -> bool:
        """Whether what was just read of a verified body is right, as far as `read` would look.

        If so the file is kept open for the next who comes.
        """
        return entry.verified and not entry.dropped and entry.body.still_right()

    async def admit(self, image: Image) -> Entry:
        """The entry for ``image``, made where there is none.

        An entry for another body under the same id is dropped.

        :raises NoRoom: there are as many entries as there may be, and all are in use.
        :raises EntryDropped: meanwhile another body has come under the same id.
        """
        key = self.key(image.image_id)
        slot = self.roster.find(key)
        if slot is not None and not slot.entry.image.same_body(image):
            self.outdated(slot.entry)
            slot = None
        if slot is None:
            await self.roster.make_place()
            slot = self.roster.find(key) or self._make(key, image)
            if not slot.entry.image.same_body(image):
                raise EntryDropped
        return slot.entry

    async def read(
        self,
        entry: Entry,
        intervals: Iterable[tuple[int, int]],
        *,
        whole: bool,
        source: Source,
        for_cache: bool = False,
    ) -> list[Reader]:
        """Readers for ``intervals`` of the body; the caller closes them.

        What is missing is got with ``source``. Room for it is found before this returns.

        :raises NoRoom: there is none.
        :raises EntryDropped: the entry has left the cache, or does so now, since its file is not what it was.
        :raises StoreError: the body file cannot be used; the entry has been dropped.
        """
        slot = self.roster.slot_of(entry)
        if slot is None:
            raise EntryDropped
        fill = slot.work.fill
        readers = [Reader(entry, start, stop, whole, for_cache) for start, stop in intervals]
        try:
            # First of all: nothing is evicted for a file that cannot be made.
            await entry.body.opened()
            for reader in readers:
                if reader.missing:
                    await entry.account.reserve(reader.start, reader.stop)
            entry.body.look(right=entry.verified)
            if entry.dropped:
                raise EntryDropped
            for reader in readers:
                fill.want(reader, source)
        except BaseException as error:
            for reader in readers:
                reader.close()
            if isinstance(error, StoreError):
                self.disk_failed(entry, error)
            if isinstance(error, BodyAltered | BodyUnusable):
                raise EntryDropped from error
            raise
        return readers

    def touch(self, entry: Entry, *, hit: bool) -> None:
        """The entry was asked for; ``hit``: and everything that was wanted was there."""
        again = entry.last_access > 0
        entry.hits += hit
        entry.last_access = self._wall()
        self.roster.touch(entry, again=again)

    def release(self, entry: Entry) -> None:
        """The rest of the body is not wanted for its own sake any more: a fill nobody reads may stop."""
        slot = self.roster.slot_of(entry)
        if slot is not None:
            slot.work.fill.release()

    def drop(self, entry: Entry, reason: str) -> None:
        """Take the entry out of the cache. Those who read it go on; nobody finds it any more."""
        if self.roster.remove(entry):
            _log.info("Dropped image {image_id}: {reason}", image_id=entry.image.image_id, reason=reason)
            self.events.note("dropped", entry.image.image_id, reason)
            entry.body.remove().addErrback(
                lambda failure: _log.warn("A file stays behind: {error}", error=failure.getErrorMessage())
            )

    def outdated(self, entry: Entry) -> None:
        """The origin has another body now: drop the entry and stop its fill."""
        self.events.note("outdated", entry.image.image_id)
        slot = self.roster.slot_of(entry)
        self.drop(entry, "the origin has another body now")
        entry.fail_missing(EntryDropped("the origin has another body now"))
        if slot is not None and slot.begun:
            self._stop(slot)

    def disk_failed(self, entry: Entry, error: StoreError) -> None:
        """The body file cannot be read or written: drop the entry, so that the next to ask begins anew."""
        if entry.dropped or isinstance(error, Exhausted):
            return
        self.events.note("disk-failed", entry.image.image_id, str(error))
        if isinstance(error, BodyAltered | BodyUnusable) or not self._disk_failing:
            _log.error("Image {image_id}: {error}", image_id=entry.image.image_id, error=str(error))
        if not isinstance(error, BodyAltered | BodyUnusable):
            self._disk_failing = True
        self.drop(entry, str(error))

    # -- what fills tell (FillObserver) ----------------------------------------------------------

    def fill_busy(self, entry: Entry) -> None:
        self.roster.fills.add(entry)

    def fill_started(self, entry: Entry) -> None:
        self.events.note("fill-started", entry.image.image_id, format_size(entry.image.size))

    def fill_grew(self, entry: Entry) -> None:
        slot = self.roster.slot_of(entry)
        if slot is not None:
            slot.work.recorder.note_growth()

    def fill_verified(self, entry: Entry) -> None:
        if self._disk_failing:
            self._disk_failing = False
            _log.info("The disk takes bodies again")
        self.counters.verified += 1
        self.events.note("verified", entry.image.image_id)
        self.fill_grew(entry)

    def fill_idle(self, entry: Entry) -> None:
        self.roster.fills.discard(entry)
        there = f"{format_size(entry.extents.total)} of {format_size(entry.image.size)}"
        self.events.note("fill-finished", entry.image.image_id, there)
        slot = self.roster.slot_of(entry)
        if slot is not None:
            self.roster.resize(entry)
            if entry.durable != entry.extents or entry.verified:
                slot.work.recorder.note_growth()
        self._drop_if_empty(entry)

    def fill_mismatch(self, entry: Entry, error: DigestMismatch) -> None:
        self.counters.verification_failures += 1
        self.events.note("verification-failed", entry.image.image_id, str(error))
        _log.error(
            "Image {image_id} failed verification and is quarantined: {error}",
            image_id=entry.image.image_id,
            error=str(error),
        )
        if self.roster.remove(entry):
            self.quarantine.take(entry.body)

    # -- inside ----------------------------------------------------------------------------------

    def _reader_left(self, entry: Entry, fill: Fill) -> None:
        fill.left()
        self._drop_if_empty(entry)

    def _drop_if_empty(self, entry: Entry) -> None:
        if not entry.extents and entry.idle and not entry.dropped:
            # Nothing came of it: an entry without a byte is of use to nobody.
            self.drop(entry, "nothing came")

    def _evicted(self, entry: Entry) -> None:
        self.events.note("evicted", entry.image.image_id, format_size(entry.account.charged.total))

    async def _see_to_orphans(self) -> None:
        await self._orphans.see_to(self._adopt)
        # Not before: a file that is going to be removed is no reason to evict an image.
        await self._trim()
        if not self._orphans.names:
            await self._index.rebuilt()

    def _adopt(self, name: str, image: Image) -> bool:
        """Make an entry of a file that has been found to be the whole image, unless there is one."""
        if self.find(image.image_id) is not None:
            return False
        body = self._body(name, image.size)
        key = self.key(image.image_id)
        entry = self._build(key, image, body, Extents.of((0, image.size)))
        entry.verified = True
        self._enter(entry)
        self._index.put(entry.record())
        _log.info("Recovered image {image_id} without the index", image_id=image.image_id)
        return True

    def _restore(self, record: Record) -> None:
        body = self._body(record.body, record.size, stamp=record.stamp)
        entry = self._build(self.key(record.image_id), record.image, body, record.extents)
        entry.created, entry.last_access = record.created, record.last_access
        entry.verified, entry.pinned, entry.hits = record.verified, record.pinned, record.hits
        self._enter(entry)

    def _make(self, key: str, image: Image) -> Slot:
        name = f"{key}.{secrets.token_hex(4)}"
        body = self._body(name, image.size, new=label(self.origin, image))
        return self._enter(self._build(key, image, body, Extents(), self._reactor.seconds()))

    def _body(self, name: str, size: int, *, new: bytes | None = None, stamp: Stamp | None = None) -> Body:
        """A body file that is there, or, with a label, is to be made."""
        return Body(
            name, size, new or b"", new is None, self._directory, self.threads.disk, self.shelf, stamp
        )

    def _build(
        self, key: str, image: Image, body: Body, on_disk: Extents, identified: float = -math.inf
    ) -> Entry:
        return Entry(
            key=key,
            origin=self.origin,
            image=image,
            body=body,
            account=self._room.account(on_disk),
            created=self._wall(),
            identified=identified,
            extents=on_disk,
            durable=on_disk,
            check=self.settings.digest_check,
        )

    def _enter(self, entry: Entry) -> Slot:
        slot = Slot(entry, self._begin)
        self.roster.enter(slot)
        return slot

    def _begin(self, entry: Entry) -> Work:
        fill = Fill(
            entry,
            self.settings.fill,
            self,
            self._reactor,
            self.threads.fill,
            self.threads.hash,
            self.counters,
        )
        entry.on_leave = partial(self._reader_left, entry, fill)
        recorder = Recorder(
            entry, self._index, self._reactor, self.threads.disk, partial(self.disk_failed, entry)
        )
        return Work(fill, recorder)

    async def _put_all(self) -> None:
        """Tell the index of every entry."""

        def put(slots: list[Slot]) -> None:
            for entry in (slot.entry for slot in slots):
                if entry.durable and not entry.dropped:
                    self._index.put(entry.record())

        await self.batches.each(self.roster, put)

    def _stop(self, slot: Slot) -> None:
        Deferred.fromCoroutine(slot.work.fill.stop()).addErrback(
            lambda failure: _log.failure("Cannot stop a fill of {key}", failure, key=slot.entry.key)
        )

    async def _trim(self) -> None:
        await self.roster.remove_stuck()
        try:
            await self._room.trim()
        except StoreError as error:
            _log.error("Cannot keep the cache within its limits: {error}", error=str(error))
