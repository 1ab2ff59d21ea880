"""The way to a client whose bytes go through this process: it says when to wait, and may go."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.web.http import Request
from zope.interface import implementer

from txglancecache.deadline import Deadline
from txglancecache.errors import ClientGone, ClientStalled
from txglancecache.waiting import Signal


@implementer(IPushProducer)
@define(eq=False)
class Outlet:
    """The request's producer, for as long as this context is open.

    :param stall_timeout: seconds for which the client may take nothing before it is given up.
    """

    _request: Request
    _clock: IReactorTime
    _stall_timeout: float
    _paused: bool = field(default=False, init=False)
    _error: Exception | None = field(default=None, init=False)
    _changed: Signal = field(factory=Signal, init=False)

    def __enter__(self) -> Outlet:
        if self._request.channel is None:
            raise ClientGone
        self._request.registerProducer(self, True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._request.channel is not None:
            self._request.unregisterProducer()

    async def ready(self) -> None:
        """Return when the client takes more.

        :raises ClientGone: it closed its connection.
        :raises ClientStalled: it takes nothing.
        """
        deadline = Deadline(self._clock)
        try:
            while self._paused and self._error is None:
                deadline.set(self._stall_timeout, self._stalled)
                await self._changed.wait()
        finally:
            deadline.end()
        if self._error is not None:
            raise self._error

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
