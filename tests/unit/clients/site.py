"""A site whose time the test makes, and connections to it."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from txglancecache.clients.limits import Limits
from txglancecache.clients.refusals import Refusals
from txglancecache.clients.site import ClientSite
from txglancecache.clients.turnstile import Turnstile

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Answers(Resource):
    """Answers ``/now`` at once, and everything else when the test says so."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.waiting: list[Request] = []
        self.asked: list[bytes] = []

    def render(self, request: Request) -> int | bytes:
        self.asked.append(request.uri)
        if request.uri == b"/now":
            return b"ok"
        self.waiting.append(request)
        return NOT_DONE_YET

    def answer(self) -> None:
        request = self.waiting.pop(0)
        request.setHeader(b"Content-Length", b"2")
        request.write(b"ok")
        request.finish()


class HalfClosing(StringTransport):
    """Can be closed on one side, as a TCP connection can."""

    half_closed = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True


@define(eq=False)
class Told:
    """Remembers what it was told of refusals."""

    reasons: list[str] = field(factory=list)

    def refused(self, site: str, reason: str) -> None:
        self.reasons.append(reason)


@define(eq=False)
class Client:
    """One connection."""

    channel: Any
    transport: HalfClosing

    def send(self, *data: bytes) -> None:
        for piece in data:
            self.channel.dataReceived(piece)

    @property
    def got(self) -> bytes:
        return self.transport.value()

    @property
    def status(self) -> int | None:
        return int(self.got[9:12]) if self.got else None

    @property
    def closed(self) -> bool:
        transport = self.transport
        return transport.disconnecting or transport.disconnected or transport.half_closed

    def leave(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


@define(eq=False)
class Server:
    """A site with these limits."""

    limits: Limits = field(factory=Limits)
    options: dict[str, Any] = field(factory=dict)
    clock: Clock = field(factory=Clock)
    told: Told = field(factory=Told)
    resource: Answers = field(factory=Answers)
    turnstile: Turnstile = field(init=False)
    site: ClientSite = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.turnstile = Turnstile(self.limits, Refusals("data", self.clock, self.told), self.clock)
        self.site = ClientSite(self.resource, reactor=self.clock, turnstile=self.turnstile, **self.options)

    def turn(self) -> None:
        """One turn of the reactor: what is due now, and nothing that comes of it."""
        for call in [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]:
            self.clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)

    def connect(self, *sent: bytes, host: str = "192.0.2.1") -> Client:
        address = IPv4Address("TCP", host, 4711)
        transport = HalfClosing(peerAddress=address)
        client = Client(self.site.buildProtocol(address), transport)
        client.channel.makeConnection(transport)
        client.send(*sent)
        return client
