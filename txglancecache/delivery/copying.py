"""Delivery by copying: for TLS and every other transport that has no socket of its own to hand out."""

from __future__ import annotations

import os

from attrs import define, field
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.web.http import Request
from zope.interface import implementer

from txglancecache.delivery.patience import Patience
from txglancecache.delivery.source import Source
from txglancecache.delivery.turn import Turn
from txglancecache.errors import ClientGone, ClientStalled, StoreError
from txglancecache.waiting import InThread, Signal, to_the_end


@implementer(IPushProducer)
@define(eq=False)
class CopyingProducer:
    """Reads what is left of one source in a thread, a turn's worth at a time, and writes it."""

    _request: Request
    _source: Source
    _fd: int
    _turn: Turn
    _clock: IReactorTime
    _in_thread: InThread
    _stall_timeout: float
    _paused: bool = field(default=False, init=False)
    _error: Exception | None = field(default=None, init=False)
    _changed: Signal = field(factory=Signal, init=False)

    async def run(self) -> None:
        """Return when the last byte has been handed to the transport."""
        patience = Patience(self._stall_timeout, self._clock, self._stalled)
        source = self._source
        self._request.write(b"")
        self._request.registerProducer(self, True)
        try:
            while source.left:
                if self._error is not None:
                    raise self._error
                if self._paused:
                    patience.renew()
                    await self._changed.wait()
                    patience.end()
                    continue
                ready = min(source.available(), self._turn.budget)
                if not ready:
                    await source.wait()
                    continue
                data = await to_the_end(self._in_thread(_read, self._fd, ready, source.position))
                source.advance(len(data))
                self._request.write(data)
        finally:
            patience.end()
            if self._request.channel is not None:
                self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._changed.fire()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._error = ClientGone()
        self._changed.fire()

    def _stalled(self) -> None:
        self._error = ClientStalled(self._stall_timeout)
        self._changed.fire()


def _read(fd: int, count: int, position: int) -> bytes:
    try:
        data = os.pread(fd, count, position)
    except OSError as error:
        raise StoreError(f"cannot read a body: {error}") from error
    if not data:
        raise StoreError(f"the body file ends at byte {position}")
    return data
