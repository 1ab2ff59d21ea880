"""A cache on a real directory whose threads, clock and origin the test moves by hand."""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from txglancecache.cache.body import Body
from txglancecache.cache.cache import Cache, CacheSettings, Threads
from txglancecache.cache.entry import DigestCheck
from txglancecache.cache.fill import FillSettings
from txglancecache.cache.reader import Reader
from txglancecache.cache.steward import Steward
from txglancecache.errors import OriginProtocolError, RangesUnsupported, SourceRefused
from txglancecache.eviction import S3Fifo
from txglancecache.image import Image
from txglancecache.store.directory import BodyUnusable, Directory
from txglancecache.store.index import Index

ORIGIN = "http://glance:9292"

_GRAVES: list[object] = []


@atexit.register
def _let_them_rest() -> None:
    """The interpreter's end wakes what waits in dead worlds; nobody needs to hear of that."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


@define(eq=False)
class Machine:
    """Runs blocking calls at once, until it is killed: then nothing is done any more."""

    calls: int = 0
    dies_before: int | None = None
    dead: bool = False
    #: Kept, as are those who wait for them: a killed process runs nobody's clean-up.
    _never: list[Deferred[Any]] = field(factory=list, init=False)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        if self.dies_before is not None and self.calls >= self.dies_before:
            self.dead = True
        if self.dead:
            never: Deferred[Any] = Deferred()
            self._never.append(never)
            return never
        self.calls += 1
        done: Deferred[Any] = Deferred()
        try:
            done.callback(function(*args, **kwargs))
        except Exception:
            done.errback(Failure())
        return done


@define(eq=False)
class Transmission:
    """A response of the origin; the test decides when which bytes come."""

    body: bytes
    start: int
    stop: int
    _receive: Callable[[bytes], None] | None = field(default=None, init=False)
    _done: Deferred[None] = field(factory=Deferred, init=False)
    sent: int = field(init=False)
    paused: bool = field(default=False, init=False)
    over: bool = field(default=False, init=False)

    @sent.default
    def _(self) -> int:
        return self.start

    def detach(self) -> None:
        return None

    def deliver(self, receive: Callable[[bytes], None]) -> Deferred[None]:
        self._receive = receive
        return self._done

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def abandon(self) -> None:
        if not self.over:
            self.over = True
            self._done.errback(CancelledError())

    def give(self, count: int | None = None) -> None:
        """Send the next ``count`` bytes, or all that are left."""
        assert self._receive is not None
        if self.over:
            return
        stop = self.stop if count is None else min(self.stop, self.sent + count)
        piece, self.sent = self.body[self.sent : stop], stop
        if piece:
            self._receive(piece)
        if self.sent == self.stop and not self.over:
            self.over = True
            self._done.callback(None)

    def break_off(self) -> None:
        """Lose the connection."""
        self.over = True
        self._done.errback(OriginProtocolError("connection lost"))


@define(eq=False)
class Origin:
    """Serves one body to whoever asks, and remembers what it was asked."""

    body: bytes
    ranged: bool = True
    sent: list[Transmission] = field(factory=list, init=False)
    refuse: dict[str, int] = field(factory=dict, init=False)
    fails: list[Exception] = field(factory=list, init=False)
    asked: list[tuple[str, int, int]] = field(factory=list, init=False)

    def image(self, image_id: str = "image-1", digest: str | None = None) -> Image:
        actual = hashlib.sha512(self.body).hexdigest()
        return Image(image_id, len(self.body), "sha512", digest or actual, None)

    def source(self, who: str = "alice") -> Source:
        return Source(self, who)

    @property
    def last(self) -> Transmission:
        return self.sent[-1]


@define
class Source:
    origin: Origin = field(eq=False)
    who: str

    async def fetch(self, start: int, stop: int, size: int) -> Any:
        self.origin.asked.append((self.who, start, stop))
        if self.who in self.origin.refuse:
            raise SourceRefused(self.origin.refuse[self.who])
        if self.origin.fails:
            raise self.origin.fails.pop(0)
        if (start, stop) != (0, size) and not self.origin.ranged:
            raise RangesUnsupported
        transmission = Transmission(self.origin.body, start, stop)
        self.origin.sent.append(transmission)
        return transmission


@define(eq=False)
class World:
    """One life of a cache; `restart` begins the next on the same directory."""

    path: Path
    max_size: int = 1 << 30
    min_free: int = 0
    finish: bool = True
    retries: int = 3
    max_entries: int = 1000
    check: DigestCheck = DigestCheck.BEFORE
    machine: Machine = field(factory=Machine)
    clock: Clock = field(factory=Clock)
    free: int = 1 << 40
    cache: Cache = field(init=False)
    directory: Directory = field(init=False)
    index: Index = field(init=False)
    steward: Steward = field(init=False)
    #: Computes digests.
    hashing: Machine = field(init=False)

    def __attrs_post_init__(self) -> None:
        _GRAVES.append(self)
        self.hashing = self.machine
        self.directory = Directory.open(self.path)
        self.index = Index(self.directory.index_path, self.clock, self.machine.run)
        settings = CacheSettings(
            max_size=self.max_size,
            min_free=self.min_free,
            max_entries=self.max_entries,
            digest_check=self.check,
            fill=FillSettings(retries=self.retries, finish=self.finish),
        )
        run = self.machine.run
        self.cache = Cache(
            ORIGIN,
            self.directory,
            self.index,
            self.clock,
            Threads(run, run, lambda function, *args: self.hashing.run(function, *args)),
            S3Fifo(),
            settings,
            wall=self.clock.seconds,
        )
        self.cache.load()
        self.cache.start()
        self.steward = Steward(self.cache, self.directory, self.index, run, run)

    def read(
        self,
        origin: Origin,
        start: int = 0,
        stop: int | None = None,
        *,
        who: str = "alice",
        image: Image | None = None,
    ) -> Reader:
        """A reader of the whole body, or of a range where ``start`` or ``stop`` are given."""
        image = image or origin.image()
        whole = start == 0 and stop is None

        async def opened() -> Reader:
            entry = await self.cache.admit(image)
            interval = (start, image.size if stop is None else stop)
            (reader,) = await self.cache.read(entry, [interval], whole=whole, source=origin.source(who))
            self.cache.touch(entry, hit=True)
            return reader

        return result(opened())

    def restart(self, check: DigestCheck | None = None) -> World:
        """Close, and begin again, with another ``check`` where one is given."""
        result(self.cache.close())
        return self._next(check or self.check)

    def crash(self) -> World:
        """Go away without a word, and begin again."""
        self.die()
        return self.again()

    def die(self) -> None:
        """Go away without a word."""
        self.machine.dead = True
        for body in cast("list[Body]", list(self.cache.shelf)):
            assert body.descriptor is not None
            os.close(body.descriptor)
        self.directory.close()
        if self.index._database is not None:
            self.index._database.close()

    def again(self) -> World:
        """Begin again on what is there now."""
        return self._next(self.check)

    def _next(self, check: DigestCheck) -> World:
        bounds = (self.max_size, self.min_free, self.finish, self.retries, self.max_entries)
        return World(self.path, *bounds, check)


def stick(world: World, monkeypatch: pytest.MonkeyPatch, *image_ids: str) -> set[str]:
    """Have the files of these images not go, as long as their names are in the set that is returned."""
    stuck = {entry.body.name for image_id in image_ids if (entry := world.cache.find(image_id))}
    remove = Directory.remove_body

    def remove_body(directory: Directory, name: str) -> None:
        if name in stuck:
            raise BodyUnusable(name, "cannot be removed: Operation not permitted")
        remove(directory, name)

    monkeypatch.setattr(Directory, "remove_body", remove_body)
    return stuck


class StillWaiting(Exception):
    """The coroutine has not come to an end."""


def result(coroutine: Any) -> Any:
    """What a coroutine that does not have to wait returns, or raises."""
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    if not found:
        raise StillWaiting
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def drain(reader: Reader) -> bytes:
    """Everything that may be sent now."""
    parts = []
    while count := reader.available():
        fd = result(_descriptor(reader))
        parts.append(os.pread(fd, count, reader.position))
        reader.advance(count)
    return b"".join(parts)


async def _descriptor(reader: Reader) -> int:
    return await reader.descriptor()


def failure_of(deferred: Deferred[Any]) -> Exception | None:
    """Why it has failed, if it has."""
    found: list[Any] = []
    deferred.addErrback(lambda failure: found.append(failure.value))
    return found[0] if found else None
