"""A fill: all that it takes to get the bytes of one entry that somebody wants.

It belongs to the entry, never to a client. Clients that come add what they want and with whose
permission it may be asked for; clients that leave take nothing away. It starts transfers where bytes are
missing, resumes what broke, and has the body verified as it grows.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txglancecache.cache.entry import DigestCheck, Entry
from txglancecache.cache.meter import Meter
from txglancecache.cache.observer import FillObserver
from txglancecache.cache.plan import Claim, Start, plan
from txglancecache.cache.readable import FileReactor
from txglancecache.cache.reader import Reader
from txglancecache.cache.retries import Retries
from txglancecache.cache.source import Source
from txglancecache.cache.span import Span, TransferStopped
from txglancecache.cache.status import Counters
from txglancecache.cache.transfer import Transfer
from txglancecache.cache.verify import Verifier
from txglancecache.errors import (
    DigestMismatch,
    Exhausted,
    FillFailed,
    ImageChanged,
    OriginError,
    RangesUnsupported,
    SourceRefused,
    StoreError,
)
from txglancecache.extents import Extents
from txglancecache.origin.client import Response
from txglancecache.waiting import InThread, Signal

_log = Logger()

#: A ranged demand is rounded up to end at a multiple of this, so that small reads in sequence do not
#: each cost a request, in bytes.
_READ_AHEAD = 1 << 20
#: What a transfer has to bring in order to count for more than none, in bytes; of a small image a part.
_PROGRESS = 64 << 10
_PROGRESS_OF_SMALL = 16
#: Clients on whose behalf a fill may ask; when one's token expires, the next serves.
_SOURCES_KEPT = 8


@frozen
class FillSettings:
    """How fills behave.

    :param retries: how often in a row a transfer may fail without bringing anything to speak of.
    :param finish: whether a fill goes on to the end when nobody waits for it any more.
    :param silence: seconds without a byte after which the origin counts as gone.
    :param min_rate: bytes a second, taken over so many seconds, with fewer than which it counts as gone too.
    """

    retries: int = 5
    finish: bool = True
    silence: float = 60.0
    min_rate: float = 1024.0


@define(eq=False)
class Fill:
    """The transfers and the verification of one entry."""

    _entry: Entry
    _settings: FillSettings
    _observer: FillObserver
    _reactor: FileReactor
    _fill_thread: InThread
    _hash_thread: InThread
    _counters: Counters
    _meter: Meter = field(init=False)
    _sources: list[Source] = field(factory=list, init=False)
    _transfers: list[Transfer] = field(factory=list, init=False)
    _whole: bool = field(default=False, init=False)
    _ranged: bool = field(default=True, init=False)
    _retries: Retries = field(init=False)
    _verifier: Verifier | None = field(default=None, init=False)
    _grown: Signal = field(factory=Signal, init=False)
    _ended: Signal = field(factory=Signal, init=False)
    _stopped: bool = field(default=False, init=False)
    _told: bool = field(default=False, init=False)
    #: Why nothing is begun any more, while what was begun goes on.
    _trouble: Exception | None = field(default=None, init=False)
    _updating: bool = field(default=False, init=False)
    _due: bool = field(default=False, init=False)

    @_meter.default
    def _(self) -> Meter:
        return Meter(self._reactor)

    @_retries.default
    def _(self) -> Retries:
        return Retries(self._settings.retries, self._reactor, self.update)

    @property
    def active(self) -> bool:
        """Whether anything is under way."""
        return bool(self._transfers or self._verifier) or self._retries.pending

    @property
    def sources(self) -> int:
        """Clients on whose behalf it asks, or could ask."""
        return len(self._sources)

    @property
    def rate(self) -> float:
        """How fast bytes come from the origin, in bytes per second."""
        return self._meter.rate

    def want(self, reader: Reader, source: Source) -> None:
        """Get what ``reader`` misses, asking with ``source``."""
        if not reader.missing:
            return
        self._whole = self._whole or reader.whole
        self._trouble = None
        if source not in self._sources:
            self._sources.append(source)
            del self._sources[:-_SOURCES_KEPT]
        # What others want has been seen to: there may be thousands of them.
        self._update(self._demands([reader]))

    def left(self) -> None:
        """A reader has left: stop what nobody wants any more."""
        if self.active or not self._entry.readers:
            self._update([])

    def update(self) -> None:
        """Start what is wanted and not under way; stop what nobody wants."""
        self._update(None)

    def _update(self, demands: list[tuple[int, int]] | None) -> None:
        """
        :param demands: what there may be to start for; None: whatever is wanted.
        """
        if self._updating:
            self._due = True
            return
        self._updating = True
        try:
            self._due = False
            self._update_once(demands)
            while self._due:
                self._due = False
                self._update_once(None)
        finally:
            self._updating = False

    def _update_once(self, demands: list[tuple[int, int]] | None) -> None:
        entry = self._entry
        was_filling = entry.filling
        if self._stopped or not (self._is_wanted() or (self._finishes and self._transfers)):
            for transfer in list(self._transfers):
                transfer.give_up()
        elif self._sources and not self._retries.pending:
            claims = [Claim(transfer.position, transfer.span.stop) for transfer in self._transfers]
            wanted = self._demands(entry.readers) if demands is None else demands
            for start in plan(entry.extents, claims, wanted, size=entry.image.size, ranged=self._ranged):
                if not self._begin(start):
                    break
        if self._due:
            # A transfer ended as soon as it was begun: there is more to decide before anything rests.
            return
        self._verify_if_due()
        entry.filling = self.active
        if entry.filling and not was_filling:
            self._observer.fill_busy(entry)
        if self._transfers and not self._told:
            self._told = True
            self._observer.fill_started(entry)
        if was_filling and not self.active:
            self._come_to_rest()
        elif not (self.active or entry.readers):
            # Room was found for a reader that left before anything was begun for it.
            entry.account.settle(entry.extents)

    def release(self) -> None:
        """The rest is not wanted for its own sake any more; readers still get what they need."""
        self._whole = any(reader.whole for reader in self._entry.readers)
        if not self._entry.readers:
            for transfer in list(self._transfers):
                transfer.give_up()
            self._retries.cancel()
        self.update()

    async def stop(self) -> None:
        """Stop every transfer and the verification; what came is kept. Returns when all is quiet."""
        self._stopped = True
        self._retries.cancel()
        if self._verifier is not None:
            self._verifier.stop()
        self.update()
        while self.active:
            await self._ended.wait()

    @property
    def _finishes(self) -> bool:
        return self._settings.finish and not self._entry.dropped

    def _is_wanted(self) -> bool:
        """Whether anybody wants a byte that is not there."""
        entry = self._entry
        if entry.complete:
            return False
        return (self._whole and self._finishes) or any(map(self._lacks, entry.readers))

    def _lacks(self, reader: Reader) -> bool:
        return not reader.failed and not self._entry.extents.covers(reader.position, reader.stop)

    def _demands(self, readers: Iterable[Reader]) -> list[tuple[int, int]]:
        """What is wanted, the whole body first."""
        entry, size = self._entry, self._entry.image.size
        if entry.complete:
            return []
        lacking = {(reader.position, reader.stop) for reader in readers if self._lacks(reader)}
        demands = [(start, min(size, -(-stop // _READ_AHEAD) * _READ_AHEAD)) for start, stop in lacking]
        if self._whole and self._finishes:
            demands.insert(0, (0, size))
        return demands

    def _begin(self, start: Start) -> bool:
        """Begin a transfer; ``False`` if the one to split is further than it had told, and past all of it.

        It ends there then, which is soon. Until that nothing can be said of the bytes behind ``start``.
        """
        first = start.start
        if start.split is not None:
            first = self._transfers[start.split].span.shorten(first)
            if first >= start.stop:
                return False
        span = Span(first, start.stop)
        settings = self._settings
        transfer = Transfer(
            span,
            self._grew,
            self._came,
            self._reactor,
            self._fill_thread,
            settings.silence,
            settings.min_rate,
        )
        self._transfers.append(transfer)
        self._entry.body.retain()
        Deferred.fromCoroutine(self._carry_out(transfer)).addErrback(
            lambda failure: _log.failure("A transfer of {key} failed", failure, key=self._entry.key)
        )
        return True

    async def _carry_out(self, transfer: Transfer) -> None:
        try:
            await self._move(transfer)
            self._retries.worked()
        except TransferStopped:
            pass
        except RangesUnsupported:
            self._ranged = False
            self._undo_split(transfer)
        except SourceRefused as error:
            self._refused(transfer, error)
        except ImageChanged as error:
            self._doubt(transfer, error)
        except FillFailed as error:
            if self._others(transfer) or self._entry.extents:
                # The origin can do it, as these show.
                self._broke(transfer, error)
            else:
                self._give_up(error)
        except OriginError as error:
            self._broke(transfer, error)
        except StoreError as error:
            self._give_up(error, transfer)
            self._observer.disk_failed(self._entry, error)
        except Exception as error:
            # Nobody knows what it was. To begin again at once could go on for ever.
            self._give_up(FillFailed(f"unexpectedly, {error!r}"), transfer)
            raise
        finally:
            self._transfers.remove(transfer)
            self._entry.body.release()
            self.update()
            self._ended.fire()

    async def _move(self, transfer: Transfer) -> None:
        entry, span = self._entry, transfer.span
        await entry.account.reserve(span.start, span.stop)
        fd = await entry.body.opened()
        if not self._sources:
            raise TransferStopped
        source = self._sources[-1]
        stop = span.ask()
        wanted = entry.extents.gaps(span.start, stop)
        # An answer that can only be had whole goes on to the end: nobody needs what is there already.
        span.shorten(wanted.stop)
        self._counters.transfers += 1
        present = Extents.of((0, entry.image.size)).difference(wanted)
        await transfer.run(self._fetch(source, span.start, stop), span.start, fd, present)

    async def _fetch(self, source: Source, start: int, stop: int) -> Response:
        try:
            response = await source.fetch(start, stop, self._entry.image.size)
        except SourceRefused:
            if source in self._sources:
                self._sources.remove(source)
            raise
        self._retries.fitted()
        return response

    def _undo_split(self, failed: Transfer) -> None:
        """Have the transfer that was to stop where ``failed`` began go on instead, up to the next byte that
        is there or on its way.

        An origin without ranges would otherwise have to send again what it is sending now.
        """
        entry, start = self._entry, failed.span.start
        spans = [transfer.span for transfer in self._transfers]
        there = entry.extents.next_start(start)
        stop = min([span.start for span in spans if span.start > start], default=entry.image.size)
        for span in spans:
            if span.stop == start:
                span.lengthen(stop if there is None else min(stop, there))

    def _came(self, count: int) -> None:
        self._counters.bytes_from_origin += count
        self._meter.add(count)

    def _grew(self, start: int, stop: int) -> None:
        self._counters.bytes_filled += stop - start
        self._entry.grow(start, stop)
        self._grown.fire()
        self._observer.fill_grew(self._entry)

    def _refused(self, transfer: Transfer, error: SourceRefused) -> None:
        _log.info(
            "The origin refused to fill {key} for one client: {status}",
            key=self._entry.key,
            status=error.status,
        )
        if not self._sources:
            self._give_up(FillFailed(str(error)), transfer)

    def _doubt(self, transfer: Transfer, error: ImageChanged) -> None:
        if self._retries.bears_misfit():
            self._broke(transfer, OriginError("the origin's answer does not fit the image"))
        else:
            self._give_up(error)
            self._observer.outdated(self._entry)

    def _broke(self, transfer: Transfer, error: Exception) -> None:
        """Try again later, at the place where it broke."""
        self._counters.transfers_failed += 1
        if self._is_progress(transfer.brought):
            self._retries.worked()
        elif not self._retries.bears_failure():
            if not self._others(transfer):
                self._give_up(FillFailed(str(error)))
                return
            self._fail_lacking(FillFailed(str(error)), transfer)
        if self._stopped:
            return
        _log.warn(
            "The transfer of {key} broke: {error}; resuming in {delay:.1f} s",
            key=self._entry.key,
            error=str(error),
            delay=self._retries.schedule(error),
        )

    def _is_progress(self, count: int) -> bool:
        """Who brings a byte at a time does not get there."""
        return bool(count) and count >= min(_PROGRESS, self._entry.image.size // _PROGRESS_OF_SMALL)

    def _give_up(self, error: Exception, failed: Transfer | None = None) -> None:
        """Tell those who wait, and forget what was wanted: the next to ask begins anew.

        :param failed: the transfer whose failure this is. What others bring goes on to those who wait for it.
        """
        _log.warn("Cannot fill {key}: {error}", key=self._entry.key, error=str(error))
        self._retries.forget()
        self._sources.clear()
        if failed is not None and self._others(failed):
            self._trouble = error
            self._fail_lacking(error, failed)
        else:
            self._whole = False
            self._entry.fail_missing(error)

    def _others(self, failed: Transfer) -> list[Transfer]:
        return [transfer for transfer in self._transfers if transfer is not failed]

    def _fail_lacking(self, error: Exception, failed: Transfer | None = None) -> None:
        """Tell those who wait for bytes that no transfer, but perhaps the one that failed, is bringing."""
        coming = Extents()
        for transfer in self._transfers:
            if transfer is not failed and transfer.position < transfer.span.stop:
                coming = coming.add(transfer.position, transfer.span.stop)
        for reader in list(self._entry.readers):
            if self._lacks(reader):
                next_byte = self._entry.extents.reach(reader.position)
                if not coming.covers(next_byte, next_byte + 1):
                    reader.fail(error, abort=False)

    def _verify_if_due(self) -> None:
        entry = self._entry
        checked = entry.verified or entry.check is DigestCheck.OFF
        wanted = (self._whole or entry.complete) and bool(entry.readers or not entry.dropped)
        due = wanted and not checked and not self._stopped
        if due and self._verifier is None and (self._transfers or entry.complete):
            self._verifier = Verifier(
                entry.image, lambda: entry.extents.reach(0), self._grown, self._hash_thread
            )
            entry.body.retain()
            Deferred.fromCoroutine(self._verify(self._verifier)).addErrback(
                lambda failure: _log.failure("Verifying {key} failed", failure, key=entry.key)
            )
        elif self._verifier is not None and not (
            wanted and (self._transfers or self._retries.pending or entry.complete)
        ):
            self._verifier.stop()

    async def _verify(self, verifier: Verifier) -> None:
        entry = self._entry
        try:
            if await verifier.run(await entry.body.opened()):
                entry.verified = True
                entry.body.stamp = verifier.stamp
                entry.wake()
                self._observer.fill_verified(entry)
        except DigestMismatch as error:
            self._stopped = True
            entry.abort(error)
            self._observer.fill_mismatch(entry, error)
        except Exception as error:
            failure = StoreError(f"cannot be verified: {error!r}")
            if isinstance(error, StoreError) and not isinstance(error, Exhausted):
                failure = error
            self._stopped = True
            entry.abort(failure)
            self._observer.disk_failed(entry, failure)
        finally:
            self._verifier = None
            entry.body.release()
            self.update()
            self._ended.fire()

    def _come_to_rest(self) -> None:
        if self._trouble is not None:
            self._fail_lacking(self._trouble)
        self._trouble = None
        self._told = False
        self._whole = False
        self._ranged = True
        self._retries.forget()
        self._sources.clear()
        self._entry.account.settle(self._entry.extents)
        self._observer.fill_idle(self._entry)
