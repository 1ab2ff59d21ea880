"""What a new process finds on disk, and what of it can be believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence

from attrs import asdict, define, field, frozen
from twisted.logger import Logger

from txglancecache.cache.room import Account, Room
from txglancecache.cache.verify import Verifier
from txglancecache.errors import DigestMismatch, StoreError
from txglancecache.extents import Extents
from txglancecache.image import Image
from txglancecache.store.directory import BodyFile, Directory
from txglancecache.store.schema import Record
from txglancecache.waiting import InThread, Signal

_log = Logger()

#: What a file may take beyond its recorded bytes: whole blocks at both ends of an extent, and what the file
#: system itself needs.
_SLACK = 64 << 10
_SLACK_PER_EXTENT = 8 << 10


@frozen
class Found:
    """The rows to go on with, the keys of those to forget, and the files that no row speaks of.

    ``bloated`` are those of the rows whose files take more of the disk than is recorded: a crash came before
    the rest could be.
    """

    records: tuple[Record, ...]
    forgotten: tuple[str, ...]
    orphans: tuple[BodyFile, ...]
    bloated: tuple[Record, ...]


def reconcile(records: Iterable[Record], files: Iterable[BodyFile], origin: str) -> Found:
    """Compare the index with the body files.

    A row is forgotten if its file is gone or of another length, if it claims bytes outside of the body,
    if it is about another origin, or if there can be no such image. The rows to go on with come least
    recently used first.
    """
    unclaimed = {file.name: file for file in files}
    good: list[Record] = []
    forgotten: list[str] = []
    bloated: list[Record] = []
    for record in sorted(records, key=lambda record: record.last_access):
        file = unclaimed.get(record.body)
        if file is None or file.size != record.size or record.origin != origin or not _is_sound(record):
            forgotten.append(record.key)
        else:
            del unclaimed[record.body]
            good.append(record)
            if _is_bloated(record, file):
                bloated.append(record)
    return Found(tuple(good), tuple(forgotten), tuple(unclaimed.values()), tuple(bloated))


def _is_bloated(record: Record, file: BodyFile) -> bool:
    recorded = record.extents.total
    slack = _SLACK + len(record.extents) * _SLACK_PER_EXTENT
    return recorded < record.size and file.allocated > recorded + slack


def _is_sound(record: Record) -> bool:
    """Whether what the row says can be true."""
    return record.image.is_possible and record.extents.stop <= record.size


def label(origin: str, image: Image) -> bytes:
    """What a body file carries with it, so that `Orphans` can tell what it is."""
    return json.dumps({"origin": origin, **asdict(image)}).encode()


@define(eq=False)
class Orphans:
    """Body files that no row of the index speaks of. Their bytes count for as long as they are there.

    :param rebuilding: the index was lost, so that they may well be whole.
    """

    _files: Sequence[BodyFile]
    _origin: str
    _directory: Directory
    _room: Room
    _rebuilding: bool = field(kw_only=True)
    _disk: InThread = field(kw_only=True)
    _hash: InThread = field(kw_only=True)
    _left: dict[str, BodyFile] = field(init=False)
    _account: Account = field(init=False)
    _stopped: bool = field(default=False, init=False)
    _purged: set[str] = field(factory=set, init=False)
    _verifier: Verifier | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._left = {file.name: file for file in self._files}
        self._account = self._charge(sum(file.allocated for file in self._files))

    @property
    def names(self) -> frozenset[str]:
        """The files that have not been seen to, or would not go."""
        return frozenset(self._left)

    def stop(self) -> None:
        """Have `see_to` end soon."""
        self._stopped = True
        if self._verifier is not None:
            self._verifier.stop()

    async def purge(self, is_meant: Callable[[str], bool]) -> None:
        """Have none of the files whose names are meant adopted; returns when they are gone.

        :raises StoreError: one would not go; all the others have.
        """
        failures: list[StoreError] = []
        names = [name for name in self.names if is_meant(name)]
        self._purged.update(names)
        for name in names:
            try:
                await self._disk(self._directory.remove_body, name)
            except StoreError as error:
                failures.append(error)
            else:
                self._gone(name)
        if failures:
            raise failures[0]

    async def see_to(self, adopt: Callable[[str, Image], bool]) -> None:
        """Remove each, unless it is whole and ``adopt`` takes it."""
        for file in self._files:
            try:
                image = await self._whole_image(file.name)
                if self._stopped:
                    return
                if image is None or file.name in self._purged or not adopt(file.name, image):
                    await self._disk(self._directory.remove_body, file.name)
            except StoreError as error:
                _log.warn("A file stays behind: {error}", error=str(error))
            else:
                self._gone(file.name)

    def _gone(self, name: str) -> None:
        """It has been removed or adopted; idempotent."""
        file = self._left.pop(name, None)
        if file is not None:
            self._account.close()
            self._account = self._charge(self._account.charged.total - file.allocated)

    async def _whole_image(self, name: str) -> Image | None:
        """The image that the file says it is, if it is all of it."""
        if self._stopped or not self._rebuilding:
            return None
        image = await self._disk(_identify, self._directory, name, self._origin)
        return image if image is not None and await self._is_whole(name, image) else None

    async def _is_whole(self, name: str, image: Image) -> bool:
        """Whether the file has the image's digest. Turns of hashing, so that others have theirs."""
        try:
            fd = await self._disk(self._directory.open_body, name, image.size)
        except StoreError:
            return False
        self._verifier = Verifier(image, lambda: image.size, Signal(), self._hash)
        try:
            whole = await self._verifier.run(fd)
            if whole:
                await self._disk(os.fdatasync, fd)
        except (StoreError, DigestMismatch, OSError):
            return False
        finally:
            self._verifier = None
            await self._disk(os.close, fd)
        return whole

    def _charge(self, count: int) -> Account:
        return self._room.account(Extents.of((0, count)))


def image_id_of(text: bytes | None) -> str | None:
    """The image that a file with this label says it holds."""
    read = read_label(text)
    return read[1].image_id if read else None


def read_label(text: bytes | None) -> tuple[str, Image] | None:
    """The origin and the image that `label` was told; ``None`` if it is no label."""
    try:
        values = json.loads(text or b"")
        origin, image = values.pop("origin"), Image(**values)
        return (origin, image) if isinstance(origin, str) and image.is_possible else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _identify(directory: Directory, name: str, origin: str) -> Image | None:
    """Which image of ``origin`` an orphaned file says it is; blocks."""
    read = read_label(directory.body_label(name))
    return read[1] if read and read[0] == origin else None
