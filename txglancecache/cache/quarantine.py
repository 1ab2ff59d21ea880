"""Bodies that failed verification: kept for a look, in bounded number and room."""

from __future__ import annotations

from typing import TypeVar

from attrs import define, field
from twisted.logger import Logger

from txglancecache.cache.body import Body
from txglancecache.cache.recovery import image_id_of
from txglancecache.cache.room import Account, Room
from txglancecache.cache.status import Freed, QuarantineFile
from txglancecache.extents import Extents
from txglancecache.store.directory import Directory
from txglancecache.waiting import InThread, Outcome

_T = TypeVar("_T")
_log = Logger()


@define(eq=False)
class Quarantine:
    """What is in quarantine counts as room taken.

    :param most_files: the most bodies to keep; older ones go.
    :param most_bytes: the most bytes on disk that they may take.
    """

    _directory: Directory
    _in_thread: InThread
    _room: Room
    _most_files: int
    _most_bytes: int
    _account: Account = field(init=False)

    @_account.default
    def _(self) -> Account:
        return self._room.account(Extents())

    @property
    def size(self) -> int:
        """Bytes on disk that it takes."""
        return self._account.charged.total

    def load(self) -> None:
        """Count what is there, and remove what a crash has left beyond the bounds; blocks."""
        self._directory.trim_quarantine(self._most_files, self._most_bytes)
        self._count()

    def take(self, body: Body) -> None:
        """Move a body file here."""
        moved = body.quarantine(self._most_files, self._most_bytes)
        moved.addCallbacks(
            lambda _: self._count(),
            lambda failure: _log.failure("Cannot quarantine {body}", failure, body=body.name),
        )

    async def files(self) -> list[QuarantineFile]:
        """What is there, the newest first."""
        found = await self._in_thread(self._directory.quarantined)
        return [
            QuarantineFile(body.name, image_id_of(body.label), body.size, body.allocated, body.time)
            for body in sorted(found, key=lambda body: -body.time)
        ]

    async def clear(self) -> Freed:
        """Delete all of it."""
        clearing = self._in_thread(self._directory.clear_quarantine)
        clearing.addBoth(self._counted)  # also when whoever asked for it has left
        found = await Outcome.of(clearing).wait()
        return Freed(len(found), sum(body.allocated for body in found))

    def _counted(self, result: _T) -> _T:
        self._count()
        return result

    def _count(self) -> None:
        self._account.close()
        self._account = self._room.account(Extents.of((0, self._directory.quarantine_size)))
