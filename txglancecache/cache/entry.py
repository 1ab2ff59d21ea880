"""An entry: one image body, as far as it is on disk, and those who read it."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum

from attrs import define, field

from txglancecache.cache.body import Body
from txglancecache.cache.reader import Reader
from txglancecache.cache.room import Account
from txglancecache.cache.status import EntryStatus
from txglancecache.extents import Extents
from txglancecache.image import Image
from txglancecache.store.schema import Record


class DigestCheck(Enum):
    """When a body is compared with the digest that the origin has for it."""

    BEFORE = "before"
    """Before a client may have the end of it."""

    AFTER = "after"
    """As soon as it is there, but nobody waits for it."""

    OFF = "off"
    """Never: a body of the right size is believed to be right."""


@define(eq=False)
class Entry:
    """What the cache has of one image. It changes only in the reactor.

    ``extents`` are in the file and may be sent; ``durable`` are known to be on disk, and recorded.
    ``identified`` is when the origin last said what the image is, ``confirmed`` when it last let a client
    have it, both in the clock's seconds.
    ``verified`` means: every byte is there, and the digest is right. ``on_leave`` is called when a reader
    left.
    """

    key: str
    origin: str
    image: Image
    body: Body
    account: Account
    created: float
    identified: float
    extents: Extents = field(factory=Extents)
    durable: Extents = field(factory=Extents)
    verified: bool = False
    check: DigestCheck = DigestCheck.BEFORE
    pinned: bool = False
    hits: int = 0
    last_access: float = 0.0
    confirmed: float = field(default=-math.inf, init=False)
    filling: bool = field(default=False, init=False)
    dropped: bool = field(default=False, init=False)
    on_leave: Callable[[], None] | None = field(default=None, init=False)
    readers: set[Reader] = field(factory=set, init=False)

    @property
    def idle(self) -> bool:
        """Whether nobody reads, fills or checks it."""
        return not (self.filling or self.body.held)

    @property
    def complete(self) -> bool:
        """Whether every byte is in the file, verified or not."""
        return self.extents.covers(0, self.image.size)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be fetched or checked."""
        return self.verified or (self.check is DigestCheck.OFF and self.complete)

    @property
    def in_doubt(self) -> bool:
        """Whether no client may have the whole body yet."""
        return self.check is DigestCheck.BEFORE and not self.verified

    def join(self, reader: Reader) -> None:
        self.body.retain()
        self.readers.add(reader)

    def leave(self, reader: Reader) -> None:
        self.readers.discard(reader)
        self.body.release()
        if self.on_leave is not None:
            self.on_leave()

    def wake(self) -> None:
        """Have every reader look again at what it may send."""
        for reader in list(self.readers):
            reader.wake()

    def grow(self, start: int, stop: int) -> None:
        """``[start, stop)`` is in the file now."""
        before = self.extents.total
        self.extents = self.extents.add(start, stop)
        self.account.grew(self.extents.total - before)
        self.wake()

    def fail_missing(self, error: Exception) -> None:
        """Tell those who need bytes that are not there that these will not come."""
        for reader in list(self.readers):
            if reader.missing:
                reader.fail(error, abort=False)

    def abort(self, error: Exception) -> None:
        """Have no reader send another byte."""
        for reader in list(self.readers):
            reader.fail(error, abort=True)

    def record(self) -> Record:
        """The row for the index: only what is on disk for certain."""
        image = self.image
        verified = self.verified and self.durable.covers(0, image.size)
        return Record(
            key=self.key,
            origin=self.origin,
            image_id=image.image_id,
            body=self.body.name,
            size=image.size,
            algorithm=image.algorithm,
            digest=image.digest,
            checksum=image.checksum,
            extents=self.durable,
            verified=verified,
            hits=self.hits,
            created=self.created,
            last_access=self.last_access,
            pinned=self.pinned,
            stamp=self.body.stamp if verified else None,
        )

    def status(self) -> EntryStatus:
        return EntryStatus(
            image_id=self.image.image_id,
            size=self.image.size,
            bytes_on_disk=self.extents.total,
            complete=self.finished,
            digest=f"{self.image.algorithm}:{self.image.digest}",
            hits=self.hits,
            created=self.created,
            last_access=self.last_access,
            readers=len(self.readers),
            pinned=self.pinned,
            filling=self.filling,
            extents=self.extents.intervals,
        )
