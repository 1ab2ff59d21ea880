"""A site as something that can listen, and that does not let everybody in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from txglancecache.clients.channel import ClientChannel
from txglancecache.clients.limits import Limits
from txglancecache.clients.refusals import Refusal, Refusals
from txglancecache.clients.turnstile import Turnstile
from txglancecache.deadline import Deadline

_log = Logger()

#: How many connections that are turned away may be open beside those that are not.
TURNED_AWAY = 128
#: How long one that is turned away may take to read why, in seconds.
_TIME_TO_READ = 2.0


class ClientSite(Site):
    """A factory for connections of clients. HTTP/1.1 only.

    :param turnstile: lets clients in.
    :param is_trusted: whether an address is one of a proxy whose word about its clients counts.
    :param is_exempt: whether a request target is always answered, however many a client has asked for.
    :param access_line: makes a line of the access log (`twisted.web.iweb.IAccessLogFormatter`); None: there
        is no such log.
    """

    protocol = ClientChannel
    requestFactory = Request

    def __init__(
        self,
        root: IResource,
        *,
        reactor: IReactorTime,
        turnstile: Turnstile | None = None,
        is_trusted: Callable[[str], bool] = lambda address: False,
        is_exempt: Callable[[bytes], bool] = lambda target: False,
        access_line: Any = None,
    ) -> None:
        # The channel has time-outs of its own.
        options = {"timeout": None, "parsePOSTFormSubmission": False}
        super().__init__(root, self.requestFactory, reactor=reactor, **options)  # type: ignore[no-untyped-call]
        self.turnstile = turnstile or Turnstile(Limits(), Refusals("data", reactor), reactor)
        self.is_trusted = is_trusted
        self.is_exempt = is_exempt
        self.turned_away = 0
        self._access_line = access_line

    def log(self, request: Any) -> None:
        """Tell of an answer, in one event. Twisted's own way makes text of it and takes that apart again."""
        if self._access_line is not None:
            _log.info("{line}", line=self._access_line(self._logDateTime, request))

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self.turnstile.has_room():
            return super().buildProtocol(addr)  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.turnstile.refusals.note(Refusal.TOO_MANY_CONNECTIONS, getattr(addr, "host", ""))
        return _TurnedAway(self)


class _TurnedAway(Protocol):
    """Tells its client to come back later; or, if there are too many like it, or TLS would have to be spoken
    first, closes without a word."""

    transport: Any

    def __init__(self, site: ClientSite) -> None:
        self._site = site
        self._deadline = Deadline(site.reactor)

    def connectionMade(self) -> None:
        self._site.turned_away += 1
        if self._site.turned_away > TURNED_AWAY or ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()
            return
        self.transport.write(Refusal.TOO_MANY_CONNECTIONS.answer())
        if hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()
        self._deadline.set(_TIME_TO_READ, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._site.turned_away -= 1
        self._deadline.end()
