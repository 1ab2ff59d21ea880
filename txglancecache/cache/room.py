"""How much room the cache may take, and who has to go when it wants more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from attrs import define, field
from twisted.internet.defer import Deferred

from txglancecache.errors import NoRoom
from txglancecache.extents import Extents
from txglancecache.waiting import Semaphore

#: Victims in a row whose files would not go, after which no more are tried at once: on a disk that takes
#: nothing back all of them would be lost for nothing.
_MOST_IN_VAIN = 4


@define(eq=False)
class Room:
    """Keeps the bytes that bodies take below ``max_size``, and ``min_free`` bytes of the disk free.

    ``charged`` counts what bodies take or have been promised; ``written`` what of that is in files
    already. A body that left the cache counts until its file is closed. ``disk_free`` is what the file
    system said last.

    :param free: asks the file system for its free bytes.
    :param victims: what may be evicted, coldest first, with the bytes that each would free; it looks
        anew at each step whether the next may go.
    :param evict: evicts one of them; fires when its file is gone, or with ``False`` if that stays.
    """

    max_size: int
    min_free: int
    _free: Callable[[], Deferred[int]]
    _victims: Callable[[], Iterator[tuple[str, int]]]
    _evict: Callable[[str], Awaitable[bool]]
    charged: int = field(default=0, init=False)
    written: int = field(default=0, init=False)
    disk_free: int = field(default=0, init=False)
    _in_vain: int = field(default=0, init=False)
    _lock: Semaphore = field(factory=Semaphore, init=False)

    def account(self, on_disk: Extents) -> Account:
        """Open the account of a body of which ``on_disk`` is there already."""
        self.charged += on_disk.total
        self.written += on_disk.total
        return Account(self, on_disk, on_disk.total)

    async def trim(self, target: int | None = None) -> None:
        """Evict until the limits hold, or the cache takes at most ``target`` bytes."""
        async with self._lock:
            excess = await self._excess(0)
            if target is not None:
                excess = max(excess, self.charged - target)
            await self._evict_bytes(excess)

    async def _make_room(self, wanted: int) -> None:
        excess = await self._excess(wanted)
        if excess <= 0:
            return
        if wanted > self.max_size or not self._can_free(excess):
            raise NoRoom(wanted)
        await self._evict_bytes(excess)
        if await self._excess(wanted) > 0:
            raise NoRoom(wanted)

    def _can_free(self, count: int) -> bool:
        for _, size in self._victims():
            count -= size
            if count <= 0:
                return True
        return False

    async def _excess(self, wanted: int) -> int:
        """The bytes that must go before ``wanted`` more may come; not positive if none."""
        self.disk_free = await self._free()
        promised = self.charged - self.written
        return max(self.charged + wanted - self.max_size, promised + wanted + self.min_free - self.disk_free)

    async def _evict_bytes(self, count: int) -> None:
        victims = self._victims()
        while count > 0:
            victim = next(victims, None)
            if victim is None:
                return
            key, size = victim
            if await self._evict(key):
                self._in_vain = 0
                count -= size
            else:
                self._in_vain += 1
                if self._in_vain >= _MOST_IN_VAIN:
                    return


@define(eq=False)
class Account:
    """What one body takes of the room: bytes in its file, and bytes that it has been promised."""

    _room: Room
    charged: Extents
    _written: int
    _closed: bool = field(default=False, init=False)

    async def reserve(self, start: int, stop: int) -> None:
        """Have ``[start, stop)`` promised, as far as it is not yet; others may have to be evicted.

        Reservations are settled one at a time.

        :raises NoRoom: it does not fit. Nothing was evicted if all that may be evicted would not do.
        """
        room = self._room
        async with room._lock:
            wanted = self.charged.gaps(start, stop).total
            if wanted and not self._closed:
                await room._make_room(wanted)
                # What had been promised may have been given back while room was made.
                before = self.charged.total
                self.charged = self.charged.add(start, stop)
                room.charged += self.charged.total - before

    def grew(self, count: int) -> None:
        """``count`` of the promised bytes are in the file now."""
        self._written += count
        self._room.written += count

    def settle(self, on_disk: Extents) -> None:
        """Nothing more is coming: give back what was promised and is not on disk."""
        if not self._closed:
            self._room.charged += on_disk.total - self.charged.total
            self.charged = on_disk

    def close(self) -> None:
        """The file is gone. Idempotent."""
        if not self._closed:
            self._closed = True
            self._room.charged -= self.charged.total
            self._room.written -= self._written
