"""Whether a cache directory is as it should be: what `twistd glancecache --check` finds out.

It looks at a directory that no node uses, blocks, and changes nothing. What a crash leaves behind and the
next start puts right is told apart from damage, which should not be there however the node ended.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

from attrs import define, field, frozen

from txglancecache.cache.cache import CacheSettings
from txglancecache.cache.recovery import read_label, reconcile
from txglancecache.cache.verify import hash_part
from txglancecache.errors import StoreError
from txglancecache.extents import Extents
from txglancecache.sizes import format_size
from txglancecache.store.directory import BodyFile, Directory
from txglancecache.store.index import read_unchanged
from txglancecache.store.schema import IndexTooNew, Record

#: The most bytes that are hashed between two looks at the progress.
_TURN = 64 << 20

#: Told how many bytes are hashed, and how many there are to hash.
Progress = Callable[[int, int], None]


@frozen
class Finding:
    """Something that is not as it should be.

    :param damage: it is not what a crash may leave, and the next start does not simply tidy it up.
    """

    where: str
    what: str
    damage: bool


@frozen
class Report:
    """What there is, and what is wrong with it. ``bytes_recorded`` are those that the index speaks of."""

    images: int
    complete: int
    files: int
    bytes_recorded: int
    hashed: int
    findings: Sequence[Finding]

    @property
    def damage(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.damage]

    @property
    def leftovers(self) -> list[Finding]:
        """What the next start tidies up."""
        return [finding for finding in self.findings if not finding.damage]


@define(eq=False)
class Audit:
    """One look at a directory.

    :param origin: the origin that the node is in front of.
    :param digests: whether to hash the bodies that are said to be whole, too.
    """

    _directory: Directory
    _origin: str
    _settings: CacheSettings
    _digests: bool
    _progress: Progress
    _findings: list[Finding] = field(factory=list, init=False)
    _to_hash: int = field(default=0, init=False)
    _hashed: int = field(default=0, init=False)

    def run(self) -> Report:
        """
        :raises StoreError: the directory cannot be looked at.
        """
        try:
            self._look_at_permissions()
            self._look_at_quarantine()
            files = list(self._directory.bodies())
            records = self._read_index(files)
            for record in records:
                self._look_at_body(record)
        except OSError as error:
            raise StoreError(f"cannot look at {self._directory.path}: {error}") from error
        return Report(
            images=len(records),
            complete=sum(record.verified for record in records),
            files=len(files),
            bytes_recorded=sum(record.extents.total for record in records),
            hashed=self._hashed,
            findings=self._findings,
        )

    def _damage(self, where: str, what: str) -> None:
        self._findings.append(Finding(where, what, True))

    def _leftover(self, where: str, what: str) -> None:
        self._findings.append(Finding(where, what, False))

    def _look_at_permissions(self) -> None:
        root = self._directory.path
        owner = root.stat().st_uid
        for path in _walk(str(root)):
            status = os.lstat(path)
            if status.st_mode & 0o077:
                self._damage(
                    os.path.relpath(path, root), f"others may use it: mode {status.st_mode & 0o777:o}"
                )
            if status.st_uid != owner:
                self._damage(os.path.relpath(path, root), f"belongs to user {status.st_uid}, not {owner}")

    def _look_at_quarantine(self) -> None:
        bodies = self._directory.quarantined()
        taken = sum(body.allocated for body in bodies)
        if len(bodies) > self._settings.quarantine_files or taken > self._settings.quarantine_bytes:
            self._leftover("quarantine", f"{len(bodies)} bodies, {format_size(taken)}, are beyond its bounds")

    def _read_index(self, files: Sequence[BodyFile]) -> Sequence[Record]:
        """The rows whose files can be looked at; what is wrong with the others is noted."""
        try:
            records = read_unchanged(self._directory.index_path)
        except IndexTooNew as error:
            self._damage("index", str(error))
            return ()
        except StoreError as error:
            self._damage(
                "index", f"{error}; the next start hashes all bodies, and keeps those that are whole"
            )
            return ()
        if records is None:
            if files:
                self._leftover("index", f"there is none; {len(files)} bodies are to be hashed")
            return ()
        found = reconcile(records, files, self._origin)
        forgotten = set(found.forgotten)
        by_name = {file.name: file for file in files}
        for record in records:
            if record.key in forgotten:
                self._explain(record, by_name.get(record.body))
        for file in found.orphans:
            self._leftover(f"body {file.name}", f"{format_size(file.allocated)}, of no image")
        if self._digests:
            self._to_hash = sum(record.size for record in found.records if record.verified)
        return found.records

    def _explain(self, record: Record, file: BodyFile | None) -> None:
        """Why a row is going to be forgotten."""
        where = f"image {record.image_id}"
        if record.origin != self._origin:
            self._leftover(where, f"of another origin, {record.origin}")
        elif file is None:
            self._leftover(where, f"body {record.body} is gone")
        elif file.size != record.size:
            self._damage(where, f"body {record.body} has {file.size} bytes instead of {record.size}")
        else:
            self._damage(where, f"bytes are recorded beyond its size, {record.size}")

    def _look_at_body(self, record: Record) -> None:
        where = f"image {record.image_id}"
        if not record.body.startswith(f"{record.key}."):
            self._damage(where, f"body {record.body} is another's")
        if record.verified and not record.extents.covers(0, record.size):
            self._damage(where, "is said to be whole, and lacks bytes")
        label = self._directory.body_label(record.body)
        if label is not None and not _is_about(label, record):
            self._damage(where, f"body {record.body} says that it holds something else")
        try:
            fd = os.open(self._directory.body_path(record.body), os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
        except OSError as error:
            self._damage(where, f"body {record.body} cannot be read: {error.strerror}")
            return
        try:
            self._look_into(fd, record)
        finally:
            os.close(fd)

    def _look_into(self, fd: int, record: Record) -> None:
        if record.verified and record.stamp is not None and not record.stamp.fits(fd):
            self._damage(
                f"image {record.image_id}",
                f"body {record.body} was altered after it had been verified (its content, mode or owner, or "
                "another file was put in its place): it is not going to be served",
            )
        holes = absent(fd, record.extents)
        # Some file systems keep zeros as holes. Where the whole body is there, its digest tells.
        if record.verified and (holes or self._digests):
            try:
                wrong = self._wrong_digest(fd, record)
            except StoreError as error:
                wrong = str(error)
            if wrong:
                self._damage(f"image {record.image_id}", f"body {record.body}: {wrong}")
        elif holes:
            lost = f"{holes.total} bytes are recorded, and are not on disk, from {holes.intervals[0][0]} on"
            self._damage(f"image {record.image_id}", f"body {record.body}: {lost}")

    def _wrong_digest(self, fd: int, record: Record) -> str | None:
        digest = hashlib.new(record.algorithm, usedforsecurity=False)
        for position in range(0, record.size, _TURN):
            stop = min(record.size, position + _TURN)
            hash_part(digest, fd, position, stop)
            self._hashed += stop - position
            self._progress(self._hashed, max(self._to_hash, self._hashed))
        found = digest.hexdigest()
        return None if found == record.digest else f"{record.algorithm} is {found}, not {record.digest}"


def absent(fd: int, extents: Extents) -> Extents:
    """Which of these bytes the file has no room allocated for."""
    holes: list[tuple[int, int]] = []
    for start, stop in extents:
        position = start
        while position < stop:
            data = min(_next_data(fd, position), stop)
            holes.append((position, data))
            position = os.lseek(fd, data, os.SEEK_HOLE) if data < stop else stop
    return Extents.of(*holes)


def _next_data(fd: int, position: int) -> int:
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return os.lseek(fd, 0, os.SEEK_END)


def _walk(root: str) -> Iterator[str]:
    def give_up(error: OSError) -> None:
        raise error

    yield root
    for folder, folders, files in os.walk(root, onerror=give_up):
        for name in (*folders, *files):
            yield os.path.join(folder, name)


def _is_about(label: bytes, record: Record) -> bool:
    found = read_label(label)
    if found is None:
        return False
    origin, image = found
    said = (origin, image.image_id, image.size, image.algorithm, image.digest)
    return said == (record.origin, record.image_id, record.size, record.algorithm, record.digest)
