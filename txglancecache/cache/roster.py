"""Which entries there are: who comes in, who leaves, and who has to go when there is no room."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txglancecache.cache.entry import Entry
from txglancecache.cache.fill import Fill
from txglancecache.cache.recorder import Recorder
from txglancecache.cache.room import Room
from txglancecache.cache.status import Counters
from txglancecache.errors import NoRoom, StoreError
from txglancecache.eviction import Policy
from txglancecache.sizes import format_size
from txglancecache.store.index import Index
from txglancecache.waiting import Outcome

_log = Logger()


@frozen(eq=False)
class Work:
    """What goes on for one entry."""

    fill: Fill
    recorder: Recorder


@define(eq=False)
class Slot:
    """An entry and the work for it. There may be a hundred thousand for which nothing is ever done."""

    entry: Entry
    _begin: Callable[[Entry], Work]
    _work: Work | None = field(default=None, init=False)

    @property
    def begun(self) -> bool:
        """Whether there ever was any `work`."""
        return self._work is not None

    @property
    def work(self) -> Work:
        """The work, which begins with that."""
        if self._work is None:
            self._work = self._begin(self.entry)
        return self._work


@define(eq=False)
class Roster:
    """The entries by their keys, the index rows that say so, and the room that they share.

    An entry that is removed is found by nobody from then on. What goes on for it is kept track of until
    its file is closed, and its bytes count until then; those of a file that would not go count until it has
    gone after all. ``fills`` are the entries of which bytes are being fetched or checked, those that leave
    included.

    :param free: asks the file system for its free bytes.
    :param evicted: told of each entry that had to go.
    """

    _index: Index
    _policy: Policy
    _counters: Counters
    max_size: int
    min_free: int
    max_entries: int
    _free: Callable[[], Deferred[int]]
    _evicted: Callable[[Entry], None]
    room: Room = field(init=False)
    fills: set[Entry] = field(factory=set, init=False)
    _slots: dict[str, Slot] = field(factory=dict, init=False)
    _leaving: set[Slot] = field(factory=set, init=False)
    _stuck: dict[str, Entry] = field(factory=dict, init=False)  # by the names of their files

    @room.default
    def _(self) -> Room:
        return Room(self.max_size, self.min_free, self._free, self._victims, self._evict)

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        """Every entry that can be found; it may change meanwhile."""
        return iter(list(self._slots.values()))

    @property
    def leaving(self) -> list[Slot]:
        """Entries that are no longer found, and not yet closed."""
        return list(self._leaving)

    def find(self, key: str) -> Slot | None:
        return self._slots.get(key)

    def slot_of(self, entry: Entry) -> Slot | None:
        """The slot of an entry that has not left."""
        slot = self._slots.get(entry.key)
        return slot if slot is not None and slot.entry is entry else None

    def enter(self, slot: Slot) -> None:
        """From now on the entry is found."""
        entry = slot.entry
        self._slots[entry.key] = slot
        self._policy.insert(entry.key, entry.account.charged.total, hits=entry.hits)

    def remove(self, entry: Entry, *, evicted: bool = False) -> bool:
        """Find the entry no more; ``False`` if that is so already. The caller sees to its file."""
        slot = self.slot_of(entry)
        if slot is None:
            return False
        del self._slots[entry.key]
        self._policy.remove(entry.key, evicted=evicted)
        self._index.delete(entry.key)
        entry.dropped = True
        self._leaving.add(slot)
        entry.body.on_closed = lambda: self._left(slot)
        if slot.begun:
            slot.work.recorder.cancel()
            slot.work.fill.update()
        return True

    def touch(self, entry: Entry, *, again: bool) -> None:
        """The entry was asked for; ``again``: not for the first time."""
        if entry.dropped:
            return
        if again:
            self._policy.hit(entry.key)
        if entry.durable:
            self._index.put_latest(entry.key, entry.record)

    def resize(self, entry: Entry) -> None:
        """The entry takes as much room as it is charged for now."""
        if not entry.dropped:
            self._policy.resize(entry.key, entry.account.charged.total)

    async def make_place(self) -> None:
        """See to it that one more entry may come.

        :raises NoRoom: there are as many as there may be, and all are in use.
        """
        victims = self._victims()
        while len(self._slots) >= self.max_entries:
            victim = next(victims, None)
            if victim is None:
                raise NoRoom(0)
            await self._evict(victim[0])

    async def remove_stuck(self) -> None:
        """Try again to remove the files that would not go."""
        for name, entry in list(self._stuck.items()):
            try:
                await entry.body.remove()
            except StoreError:
                continue
            self.gone(name)

    def gone(self, name: str) -> None:
        """The file is not there any more; nothing happens unless it would not go before."""
        entry = self._stuck.pop(name, None)
        if entry is not None:
            entry.account.close()
            _log.info("The file {name} that had stayed behind is gone", name=name)

    def _left(self, slot: Slot) -> None:
        if slot.entry.body.stays:
            self._stuck[slot.entry.body.name] = slot.entry
        else:
            slot.entry.account.close()
        # So that nothing leads from the entry back to itself: who came at the start is never looked at by the
        # collector of cycles.
        slot.entry.on_leave = None
        self._leaving.discard(slot)

    def _victims(self) -> Iterator[tuple[str, int]]:
        for key in self._policy.victims():
            slot = self._slots.get(key)
            if slot is not None and slot.entry.idle and not slot.entry.pinned:
                yield key, slot.entry.account.charged.total

    async def _evict(self, key: str) -> bool:
        entry = self._slots[key].entry
        self._counters.evictions += 1
        _log.info(
            "Evicted image {image_id}, {size}",
            image_id=entry.image.image_id,
            size=format_size(entry.account.charged.total),
        )
        self._evicted(entry)
        self.remove(entry, evicted=True)
        try:
            # Who wanted the room may leave: what a thread does goes on.
            await Outcome.of(entry.body.remove()).wait()
        except StoreError as error:
            _log.warn("A file stays behind: {error}", error=str(error))
            return False
        return True
