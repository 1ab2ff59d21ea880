"""Image downloads: from the client's request to the last byte of its response."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txglancecache.cache.cache import Cache
from txglancecache.cache.reader import Reader
from txglancecache.conditions import Conditions, Verdict
from txglancecache.delivery.delivery import Delivery
from txglancecache.errors import (
    ClientGone,
    ClientStalled,
    EntryDropped,
    FillFailed,
    GlanceCacheError,
    ImageChanged,
    StoreError,
)
from txglancecache.extents import Extents
from txglancecache.headers import cache_status, without
from txglancecache.image import Image
from txglancecache.origin.client import OriginClient
from txglancecache.origin.glance import Denied, ImageSource
from txglancecache.proxy.clearance import Asked, Clearance, Cleared, JustChanged, NotCacheable, NotShown
from txglancecache.proxy.heads import Heads, How
from txglancecache.proxy.observer import DownloadObserver, Unobserved
from txglancecache.proxy.passthrough import PassThrough
from txglancecache.proxy.sending import Sending
from txglancecache.proxy.site import DataRequest
from txglancecache.ranges import ByteRange, Partial, Selection, Unsatisfiable, Whole, select
from txglancecache.waiting import Semaphore

_log = Logger()

#: Fields that make an answer another than the whole body, or none of the cache's business.
_PARTICULAR = frozenset({b"content-range", b"if-match", b"if-none-match", b"if-range", b"range"})
#: How often a request may find that the image has just changed before it is passed through.
_ATTEMPTS = 3


@define(eq=False)
class Images:
    """Answers ``GET`` and ``HEAD`` of ``/v2/images/{id}/file``.

    :param name: this cache's name in ``Cache-Status``.
    :param lanes: how many may go on from the origin at once when the disk fails, see `Sending`.
    """

    _cache: Cache
    _clearance: Clearance
    _client: OriginClient
    _pass_through: PassThrough
    _delivery: Delivery
    _clock: IReactorTime
    _name: bytes
    _observer: DownloadObserver = field(factory=Unobserved)
    _lanes: Semaphore = field(kw_only=True)
    _heads: Heads = field(init=False)

    @_heads.default
    def _(self) -> Heads:
        return Heads(self._clock, self._name, self._pass_through.via)

    def at_once(self, request: DataRequest, image_id: str) -> bool:
        """Answer a request that wants nobody asked and nothing waited for; whether it is one.

        That is the way of a small body that is verified, open and in memory, to a client whose permission
        holds, and the answer is the one that `download` would give. Otherwise nothing has happened.
        """
        entry = self._cache.find(image_id)
        if entry is None or request.method != b"GET" or request.body is not None:
            return False
        if not _PARTICULAR.isdisjoint([name.lower() for name, _ in request.raw_headers]):
            return False
        data = self._delivery.at_hand(entry.image.size, entry.body.descriptor) if entry.verified else None
        if data is None:
            return False
        asked = self._asked(request, image_id)
        cleared = self._clearance.known(asked)
        if cleared is None or not self._cache.still_right(entry):
            return False
        self._cache.counters.hits += 1
        self._cache.counters.served(len(data))
        self._cache.touch(entry, hit=True)
        self._observer.began(How.HIT.word, self._clock.seconds() - asked.at)
        self._heads.begin(request, cleared, 200, How.HIT)
        self._heads.describe(request, cleared.image, Whole())
        request.write(data)
        self._observer.ended(How.HIT.word, self._clock.seconds() - asked.at, len(data), 0, whole=True)
        request.finish()
        return True

    def _asked(self, request: DataRequest, image_id: str) -> Asked:
        return Asked(image_id, request.uri, self._pass_through.outgoing(request), self._clock.seconds())

    async def download(self, request: DataRequest, image_id: str) -> None:
        """Answer one request; returns when its response is complete or broken off.

        :raises OriginError: the origin cannot be asked. Nothing has been written then.
        :raises DigestMismatch: the origin sent a wrong body, and nothing of it has been written.
        """
        asked = self._asked(request, image_id)
        reason = b"image-changes"
        for _ in range(_ATTEMPTS):
            settled = await self._clearance.settle(asked)
            if isinstance(settled, JustChanged):
                continue
            if isinstance(settled, NotShown):
                status = await self._pass_through.relay(request, cache_status=self._denied())
                self._count_passed_through(request, status)
                return
            if isinstance(settled, NotCacheable):
                reason = settled.reason
                break
            if isinstance(settled, Denied):
                self._refuse(request, settled)
                return
            try:
                await self._answer(request, asked, settled)
                return
            except ClientGone:
                return
            except (EntryDropped, ImageChanged):
                continue
            except (FillFailed, StoreError) as error:
                _log.warn("Passing image {id} through: {error}", id=image_id, error=str(error))
                reason = b"no-room" if isinstance(error, StoreError) else b"fill-failed"
                break
        self._cache.counters.bypassed += 1
        await self._bypass(request, asked, cache_status(self._name, fwd=b"bypass", detail=reason))

    async def _bypass(self, request: DataRequest, asked: Asked, how: bytes) -> None:
        """Have the origin answer; the whole body where it cannot send the part that was asked for."""
        response = await self._client.request(request.method, asked.target, asked.headers)
        if response.head.status == 400 and asked.header(b"range") is not None:
            response.abandon()
            response = await self._client.request(
                request.method, asked.target, without(asked.headers, b"range", b"if-range")
            )
        try:
            await self._pass_through.answer(request, response, cache_status=how)
        finally:
            self._count_passed_through(request, response.head.status)

    def _count_passed_through(self, request: DataRequest, status: int) -> None:
        """The whole answer was the origin's; it may have been an image."""
        if status in (200, 206):
            self._cache.counters.served(passed_through=request.sentLength)

    def _refuse(self, request: DataRequest, denied: Denied) -> None:
        """Pass the origin's denial on as it is."""
        self._pass_through.begin(request, denied.answer.head, cache_status=self._denied())
        request.setHeader(b"content-length", b"%d" % len(denied.answer.body))
        request.write(denied.answer.body)

    def _denied(self) -> bytes:
        """The same whether or not the image is cached: that is nobody's business who may not have it."""
        return cache_status(self._name, fwd=b"miss")

    async def _answer(self, request: DataRequest, asked: Asked, cleared: Cleared) -> None:
        """Settle conditions and range, and send what they leave."""
        image = cleared.image
        conditions = Conditions(
            asked.header(b"if-match"), asked.header(b"if-none-match"), asked.header(b"if-range")
        )
        verdict = conditions.verdict(image.etag)
        selection: Selection = Whole()
        if request.method == b"GET" and conditions.range_applies(image.etag):
            selection = select(asked.header(b"range"), image.size)
        if verdict is not Verdict.PROCEED:
            code = 304 if verdict is Verdict.NOT_MODIFIED else 412
            self._heads.begin(request, cleared, code, self._how(image, ()))
            if code == 412:
                request.setHeader(b"content-length", b"0")
        elif isinstance(selection, Unsatisfiable):
            self._heads.begin(request, cleared, 416, self._how(image, ()))
            request.verbatim.append((b"Content-Range", selection.content_range(image.size)))
            request.setHeader(b"content-length", b"0")
        elif request.method == b"HEAD":
            self._heads.begin(request, cleared, 200, self._how(image, ()))
            self._heads.describe(request, image, selection)
        else:
            await self._serve(request, asked, cleared, selection)

    async def _serve(
        self, request: DataRequest, asked: Asked, cleared: Cleared, selection: Whole | Partial
    ) -> None:
        """Send a body, or parts of it, out of the cache."""
        cache, image = self._cache, cleared.image
        entry = await cache.admit(image)
        entry.confirmed = max(entry.confirmed, cleared.since)
        all_of_it = (ByteRange(0, image.size),)
        status, ranges = (206, selection.ranges) if isinstance(selection, Partial) else (200, all_of_it)
        # One range may be all of it, too, and nobody is to end up with a wrong body.
        whole = tuple(ranges) == all_of_it
        how, had = self._how(image, ranges), entry.extents
        source = ImageSource(self._client, asked.target, asked.headers)
        readers = await cache.read(
            entry, [(part.start, part.stop) for part in ranges], whole=whole, source=source
        )
        with ExitStack() as held:
            for reader in readers:
                held.enter_context(reader)
            # Until there is something to send, whatever goes wrong can still be answered properly.
            fd = await readers[0].descriptor()
            await readers[0].wait()
            self._count(how)
            cache.touch(entry, hit=how is How.HIT)
            began = self._clock.seconds()
            self._observer.began(how.word, began - asked.at)
            self._heads.begin(request, cleared, status, how)
            plan = self._heads.describe(request, image, selection)
            sending = Sending(request, readers, plan, source, cache, self._delivery, self._clock, self._lanes)
            ended = "broken off"
            try:
                await sending.run(fd)
                ended = "complete"
            except (ClientGone, CancelledError):
                ended = "left by its client"
                request.abort()
                raise
            except Exception as error:
                ended = f"aborted: {error}"
                if not isinstance(error, GlanceCacheError):
                    _log.failure("A download of image {id} met a bug", id=image.image_id)
                if isinstance(error, ClientStalled) and request.channel is not None:
                    request.channel.stalled()
                request.abort()
            finally:
                seconds = self._clock.seconds() - began
                self._tell_ended(how, readers, had, sending, seconds)
                _log.info(
                    "Image {id}, {how}: {sent} bytes in {seconds:.3f} s, {ended}",
                    id=image.image_id,
                    how=how.word,
                    sent=sending.from_files + sending.passed_through,
                    seconds=seconds,
                    ended=ended,
                )

    def _tell_ended(
        self, how: How, readers: Sequence[Reader], had: Extents, sending: Sending, seconds: float
    ) -> None:
        """Count what was sent, and tell the observer, when ``had`` was in the cache before it."""
        self._cache.counters.served(sending.from_files, sending.passed_through)
        sent = sending.from_files + sending.passed_through
        covered = [had.intersection(Extents.of((reader.start, reader.position))) for reader in readers]
        before = sum(extents.total for extents in covered)
        self._observer.ended(how.word, seconds, before, sent - before, whole=sending.whole)

    def _how(self, image: Image, ranges: Sequence[ByteRange]) -> How:
        """How an answer that needs ``ranges`` of the body is going to be had."""
        entry = self._cache.find(image.image_id)
        if entry is None:
            return How.MISS if ranges else How.NO_BODY
        if entry.verified or all(entry.extents.covers(part.start, part.stop) for part in ranges):
            return How.HIT
        if entry.filling or entry.readers:
            return How.COLLAPSED
        return How.PARTIAL if entry.extents else How.MISS

    def _count(self, how: How) -> None:
        counters = self._cache.counters
        if how is How.HIT:
            counters.hits += 1
        elif how is How.COLLAPSED:
            counters.collapsed += 1
        else:
            counters.misses += 1
