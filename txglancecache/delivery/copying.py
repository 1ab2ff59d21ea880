"""Delivery by copying: for TLS and every other transport that has no socket of its own to hand out."""

from __future__ import annotations

import os

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from txglancecache.delivery.outlet import Outlet
from txglancecache.delivery.source import Source
from txglancecache.delivery.turn import Turn
from txglancecache.errors import StoreError
from txglancecache.waiting import InThread, to_the_end


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

    async def run(self) -> None:
        """Return when the last byte has been handed to the transport."""
        source = self._source
        self._request.write(b"")
        with Outlet(self._request, self._clock, self._stall_timeout) as outlet:
            while source.left:
                await outlet.ready()
                ready = min(source.available(), self._turn.budget)
                if not ready:
                    await source.wait()
                    continue
                data = await to_the_end(self._in_thread(_read, self._fd, ready, source.position))
                source.advance(len(data))
                self._request.write(data)


def _read(fd: int, count: int, position: int) -> bytes:
    try:
        data = os.pread(fd, count, position)
    except OSError as error:
        raise StoreError(f"cannot read a body: {error}") from error
    if not data:
        raise StoreError(f"the body file ends at byte {position}")
    return data
