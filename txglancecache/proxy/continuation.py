"""A body that goes on from the origin, after the disk that it was being sent from gave out.

The client has had the beginning and does not notice. Everything comes with that client's own credentials,
at its own pace, through the reactor, and is kept nowhere.

No client may complete a wrong body here either: where a digest is given, all that comes is hashed behind
it, in a thread, and the last block waits until the digest is right.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txglancecache.cache.reader import HELD_BACK
from txglancecache.cache.source import Source
from txglancecache.cache.verify import BodyDigest
from txglancecache.delivery.outlet import Outlet
from txglancecache.errors import BodyAltered, OriginError, RangesUnsupported
from txglancecache.image import Image
from txglancecache.origin.client import Response
from txglancecache.proxy.site import DataRequest
from txglancecache.waiting import Signal

_log = Logger()

#: Bytes that may wait in memory for the client or for the thread that hashes; the origin is paused then.
_PENDING_LIMIT = 1 << 20
#: How often in a row the origin may fail without sending a byte.
_RETRIES = 5
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0


@define(eq=False)
class Continuation:
    """The rest of one answer. A context manager: at its end nothing of the origin's is left open.

    :param source: asks the origin on behalf of the client.
    :param stall_timeout: seconds for which the client may take nothing before it is given up.
    """

    _request: DataRequest
    _image: Image
    _source: Source
    _clock: IReactorTime
    _stall_timeout: float
    _stream: OriginStream = field(init=False)
    sent: int = field(default=0, init=False)

    @_stream.default
    def _(self) -> OriginStream:
        return OriginStream(self._source, self._image.size, self._clock)

    def __enter__(self) -> Continuation:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    async def compare(self, start: int, stop: int, digest: BodyDigest) -> None:
        """See whether ``[start, stop)`` of a file, hashed alone in ``digest``, is what the origin has.

        :raises BodyAltered: it is not.
        :raises OriginError: the origin does not send it.
        """
        theirs = digest.fresh()
        at = await self._stream.open(start, stop)
        while data := await self._stream.read():
            await theirs.update(data[max(0, start - at) :])
            at += len(data)
        if theirs.hexdigest() != digest.hexdigest():
            raise BodyAltered(f"what was sent of image {self._image.image_id}")

    async def part(self, start: int, stop: int) -> None:
        """Send ``[start, stop)``, without a look at a digest.

        :raises OriginError: the origin does not send it.
        :raises ClientGone: the client closed its connection.
        :raises ClientStalled: it takes nothing.
        """
        await self._pour(await self._stream.open(start, stop), start, None)

    async def rest(self, start: int, digest: BodyDigest, *, known: bool) -> None:
        """Send all from ``start`` on, but the last block only if the whole body is right.

        :param digest: that of ``[0, start)``, or of nothing: then the body is taken from its first byte.
        :param known: what was sent is right for certain. Then the body is not taken from its first byte for
            the digest's sake, and without the digest of what was sent there is no look at it.
        :raises DigestMismatch: it is not.
        :raises Exception: as for `part`.
        """
        begin = start if known or digest.hashed == start else 0
        at = await self._stream.open(begin, self._image.size)
        if at == 0:
            digest = digest.fresh()
        await self._pour(at, start, digest if digest.hashed == at else None)

    async def _pour(self, at: int, start: int, digest: BodyDigest | None) -> None:
        """Send what the stream has behind ``start``; it is at ``at`` now."""
        held = b""
        hold = HELD_BACK if digest is not None else 0
        with Outlet(self._request, self._clock, self._stall_timeout) as outlet:
            while data := await self._stream.read():
                if digest is not None:
                    await digest.update(data)
                held += data[max(0, start - at) :]
                at += len(data)
                if len(held) > hold:
                    ready = len(held) - hold
                    await self._write(outlet, held[:ready])
                    held = held[ready:]
            if digest is not None:
                digest.check()
            await self._write(outlet, held)

    async def _write(self, outlet: Outlet, data: bytes) -> None:
        if data:
            await outlet.ready()
            self._request.write(data)
            self.sent += len(data)


@define(eq=False)
class OriginStream:
    """Bytes of an image as the origin sends them. Where it breaks off, it is asked again for the rest."""

    _source: Source
    _size: int
    _clock: IReactorTime
    _position: int = field(default=0, init=False)
    _stop: int = field(default=0, init=False)
    _ranged: bool = field(default=True, init=False)
    _inflow: _Inflow | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    async def open(self, start: int, stop: int) -> int:
        """Have `read` return bytes up to ``stop``; returns the offset of the first that it will return.

        That is ``start``, or comes before it where the origin cannot send a part.

        :raises SourceRefused: the origin does not give them to this client.
        :raises ImageChanged: it has another body now.
        :raises OriginError: it could not be asked, several times.
        """
        under_way = not self._ranged and self._inflow is not None and self._position <= start
        self._stop = stop
        if not under_way:
            self.close()
            self._position = start
            while self._inflow is None:
                await self._persist(self._ask)
            self._position = self._inflow.position
        return self._position

    async def read(self) -> bytes:
        """The next bytes; none at the end of what was opened.

        :raises Exception: as for `open`.
        """
        data = b""
        while not data and self._position < self._stop:
            data = await self._persist(self._read)
        self._position += len(data)
        return data

    def close(self) -> None:
        """No more is wanted. Idempotent."""
        if self._inflow is not None:
            self._inflow.close()
            self._inflow = None

    async def _persist(self, attempt: Callable[[], Awaitable[bytes]]) -> bytes:
        """What ``attempt`` returns; nothing if the origin failed, and may be asked again by now."""
        try:
            data = await attempt()
        except OriginError as error:
            self.close()
            self._failures += 1
            if self._failures > _RETRIES:
                raise
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2**self._failures) * random.uniform(0.8, 1.2)  # noqa: S311
            _log.warn(
                "The origin broke off at byte {position} of what the disk could not give: {error}; "
                "going on in {delay:.1f} s",
                position=self._position,
                error=str(error),
                delay=delay,
            )
            await deferLater(self._clock, delay)
            return b""
        if data:
            self._failures = 0
        return data

    async def _ask(self) -> bytes:
        try:
            begin, stop = (self._position, self._stop) if self._ranged else (0, self._size)
            self._inflow = _Inflow(await self._source.fetch(begin, stop, self._size), begin)
        except RangesUnsupported:
            if not self._ranged:
                raise OriginError("the origin sends neither a part nor the whole") from None
            self._ranged = False
        return b""

    async def _read(self) -> bytes:
        """Bytes from the position on; nothing if there may be some the next time."""
        if self._inflow is None:
            return await self._ask()
        data = await self._inflow.read(self._stop)
        return data[max(0, self._position - self._inflow.position + len(data)) :]


@define(eq=False)
class _Inflow:
    """One answer of the origin, whose body begins at ``position``; paused while nobody takes it."""

    _response: Response
    position: int
    _pending: list[bytes] = field(factory=list, init=False)
    _waiting: int = field(default=0, init=False)
    _ended: bool = field(default=False, init=False)
    _failure: BaseException | None = field(default=None, init=False)
    _arrived: Signal = field(factory=Signal, init=False)

    def __attrs_post_init__(self) -> None:
        self._response.deliver(self._received).addBoth(self._over)

    async def read(self, stop: int) -> bytes:
        """All that is there of what comes before ``stop``; ``position`` moves behind it.

        :raises OriginError: it broke off, and everything that came has been read.
        """
        while not self._pending:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise OriginError(f"the body ended at byte {self.position}")
            await self._arrived.wait()
        data = b"".join(self._pending)
        data, left = data[: stop - self.position], data[stop - self.position :]
        self._pending = [left] if left else []
        self._waiting = len(left)
        self.position += len(data)
        if not self._ended and self._waiting <= _PENDING_LIMIT:
            self._response.resumeProducing()
        return data

    def close(self) -> None:
        self._response.abandon()

    def _received(self, data: bytes) -> None:
        self._pending.append(data)
        self._waiting += len(data)
        if self._waiting > _PENDING_LIMIT:
            self._response.pauseProducing()
        self._arrived.fire()

    def _over(self, result: object) -> None:
        self._ended = True
        self._failure = getattr(result, "value", None)
        self._arrived.fire()
