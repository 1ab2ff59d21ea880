"""A reader: one interval of a body, on its way to one client."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed

from txglancecache.waiting import Signal

if TYPE_CHECKING:
    from txglancecache.cache.entry import Entry

#: The end of a whole-body response that is held back until the digest is known to be right, in bytes.
HELD_BACK = 64 << 10


@define(eq=False)
class Reader:
    """Reads ``[start, stop)`` of an entry's body, waiting for bytes that are still to come.

    A context manager: while it is open, the entry is neither evicted nor its file closed.

    :param whole: the response is the whole body. Its last block is held back while the body is in doubt, so
        that no client can complete a wrong one.
    :param for_cache: it reads only to have the body in the cache, and ends when the image is purged.
    """

    entry: Entry
    start: int
    stop: int
    whole: bool
    for_cache: bool = False
    position: int = field(init=False)
    _grown: Signal = field(factory=Signal, init=False)
    _failure: Exception | None = field(default=None, init=False)
    _aborted: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)

    @position.default
    def _(self) -> int:
        return self.start

    def __attrs_post_init__(self) -> None:
        self.entry.join(self)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the entry. Idempotent."""
        if not self._closed:
            self._closed = True
            self.entry.leave(self)

    @property
    def left(self) -> int:
        """Bytes still to be sent."""
        return self.stop - self.position

    @property
    def failed(self) -> bool:
        """Whether it was told that what it misses will not come."""
        return self._failure is not None

    @property
    def missing(self) -> bool:
        """Whether bytes that it still needs are not on disk, or still to be checked."""
        entry = self.entry
        return (self.whole and not entry.finished) or not entry.extents.covers(self.position, self.stop)

    def available(self) -> int:
        """How many bytes from ``position`` on may be sent now.

        :raises Exception: why not one more byte of this body may be sent.
        """
        if self._aborted and self._failure is not None:
            raise self._failure
        self.check()
        return self._reach()

    def check(self) -> None:
        """See that a body that was right has not been changed since.

        :raises BodyAltered: it has.
        :raises StoreError: nobody can tell.
        """
        if self.entry.verified:
            self.entry.body.check()

    def _reach(self) -> int:
        entry = self.entry
        stop = self.stop
        if self.whole and entry.in_doubt:
            stop -= HELD_BACK
        return max(0, min(entry.extents.reach(self.position), stop) - self.position)

    def advance(self, count: int) -> None:
        """``count`` bytes from ``position`` on have been sent."""
        self.position += count

    def descriptor(self) -> Deferred[int]:
        """The body file's descriptor, valid until the reader is closed."""
        return self.entry.body.opened()

    def wait(self) -> Deferred[None]:
        """Fires when there may be more bytes; fails when there will not be."""
        if self._failure is not None and (self._aborted or not self._readable()):
            return fail(self._failure)
        if self._readable() or not self.left:
            return succeed(None)
        return self._grown.wait().addCallback(lambda _: self.wait())

    def _readable(self) -> bool:
        return self._reach() > 0

    def wake(self) -> None:
        """The entry has changed: tell who waits, if it is what is waited for.

        Each time that a waiter looks in vain makes its Deferred's chain longer by one, and a body grows
        very often.
        """
        if self._failure is not None or self._readable():
            self._grown.fire()

    def fail(self, error: Exception, *, abort: bool) -> None:
        """What is missing will not come; with ``abort``, what is there must not be sent either."""
        self._failure = error
        self._aborted = self._aborted or abort
        self.wake()
