"""One node as a service: how it begins to listen, and how it ends.

It ends in this order: no new connection; what is being answered may be finished within the grace period;
what is left is cut off; then everything beneath is closed, so that the index is on disk. Knows nothing
of what its sites do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txglancecache.errors import ConfigurationError
from txglancecache.service.draining import Connections
from txglancecache.service.listening import Listener

_log = Logger()

#: How long connections that were cut off may take to be gone, in seconds.
_LAST_WORDS = 5.0


@define(eq=False, slots=False)
class Node(Service):
    """Two sites and what is beneath them.

    :param sites: where to listen, and for what.
    :param prepare: called after the fork and before anything listens; may block, and may fail.
    :param begin: called when the process has become what it stays, before any request is answered.
    :param end: closes all that the sites stand on.
    :param failed: called with one line when an endpoint turns out not to work only after a while.
    """

    _clock: IReactorTime
    _sites: Sequence[tuple[Listener, IProtocolFactory]]
    _connections: Connections
    _grace: float
    _prepare: Callable[[], None]
    _begin: Callable[[], None]
    _end: Callable[[], Awaitable[None]]
    _failed: Callable[[str], None]
    _ports: list[Deferred[IListeningPort | None]] = field(factory=list, init=False)
    _patience: Deferred[None] | None = field(default=None, init=False)
    _prepared: bool = field(default=False, init=False)
    _stopping: bool = field(default=False, init=False)
    _hurried: bool = field(default=False, init=False)

    def privilegedStartService(self) -> None:
        """Listen, while this may still be a port below 1024."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._prepared = True
        self._prepare()
        for listener, factory in self._sites:
            self._listen(listener, factory)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # so it is in Twisted
        if not self._prepared:
            self.privilegedStartService()
        self._begin()

    def stopService(self) -> Deferred[None]:
        """Fires when all is over."""
        super().stopService()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._stopping = True
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """Wait for nobody: end the grace period, or do without it."""
        self._hurried = True
        if self._patience is not None:
            self._patience.cancel()

    def _listen(self, listener: Listener, factory: IProtocolFactory) -> None:
        failures: list[Failure] = []
        listening: Deferred[Any] = maybeDeferred(listener.endpoint.listen, factory)
        listening.addErrback(failures.append)
        if failures:
            raise ConfigurationError(_reason(listener, failures[0]))
        self._ports.append(listening)
        listening.addCallback(self._listening, listener, failures)

    def _listening(
        self, port: IListeningPort | None, listener: Listener, failures: list[Failure]
    ) -> IListeningPort | None:
        if port is not None:
            _log.info("Listening on {address}", address=port.getHost(), description=listener.description)
        elif not (self._stopping and failures[0].check(CancelledError)):
            self._failed(_reason(listener, failures[0]))
        return port

    async def _stop(self) -> None:
        try:
            for listening in self._ports:
                await self._stop_listening(listening)
            await self._drain()
            await self._cut_off()
        finally:
            try:
                await self._end()
            except Exception:
                _log.failure("This was not the end it should have been")

    async def _drain(self) -> None:
        drained = self._patience = self._connections.drain()
        if not drained.called:
            grace = 0.0 if self._hurried else self._grace
            left = len(self._connections)
            _log.info("{count} connections have {grace} s to finish", count=left, grace=grace)
            drained.addTimeout(grace, self._clock)
        try:
            await drained
        except (CancelledError, TimeoutError):
            _log.warn("{count} connections are cut off", count=len(self._connections))

    async def _cut_off(self) -> None:
        gone = self._connections.abort().addTimeout(_LAST_WORDS, self._clock)
        try:
            await gone
        except TimeoutError:
            _log.warn("{count} connections would not go", count=len(self._connections))

    async def _stop_listening(self, listening: Deferred[IListeningPort | None]) -> None:
        if not listening.called:
            listening.cancel()
        port = await listening
        if port is None:
            return
        try:
            await maybeDeferred(port.stopListening)
        except OSError as error:
            # A unix socket whose file is gone, or may not be removed by whom this process has become.
            _log.warn("Cannot remove a socket: {error}", error=str(error))


def _reason(listener: Listener, failure: Failure) -> str:
    error = failure.value
    if isinstance(error, CannotListenError):
        error = error.socketError
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return f"cannot listen on {listener.description}: {reason}"
