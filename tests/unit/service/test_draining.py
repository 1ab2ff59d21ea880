"""How the connections of a site come to an end."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txglancecache.service.draining import Connections

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Slow(Resource):
    """Answers when the test says so."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.requests: list[Request] = []

    def render_GET(self, request: Request) -> int:
        self.requests.append(request)
        return NOT_DONE_YET

    def answer(self) -> None:
        request = self.requests.pop(0)
        request.setHeader(b"Content-Length", b"2")
        request.write(b"ok")
        request.finish()


@define(eq=False)
class Client:
    """One connection to a site; closes its end when the site closes its own."""

    channel: HTTPChannel
    transport: StringTransport = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4711))
        self.channel.makeConnection(self.transport)

    @property
    def closing(self) -> bool:
        return self.transport.disconnecting or self.transport.disconnected

    def gone(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


@define(eq=False)
class Server:
    """A site whose connections are known."""

    resource: Slow = field(factory=Slow)
    connections: Connections = field(factory=Connections)
    clock: Clock = field(factory=Clock)
    site: Site = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.site = Site(self.resource, reactor=self.clock)
        self.connections.watch(self.site)

    def connect(self, sent: bytes = b"") -> Client:
        channel = self.site.buildProtocol(None)
        assert isinstance(channel, HTTPChannel)
        client = Client(channel)
        channel.dataReceived(sent)
        return client


def test_nothing_open() -> None:
    """Without connections there is nothing to wait for."""
    connections = Connections()
    assert connections.drain().called
    assert connections.abort().called


def test_connections_are_counted() -> None:
    """A connection is known from its beginning to its end."""
    server = Server()
    one, other = server.connect(), server.connect(GET)
    assert len(server.connections) == 2
    one.gone()
    other.gone()
    assert len(server.connections) == 0


def test_idle_connections_are_closed() -> None:
    """A connection between two requests is closed at once, a new one after a moment without any."""
    server = Server()
    fresh, kept = server.connect(), server.connect(GET)
    server.resource.answer()
    assert not kept.closing
    drained = server.connections.drain()
    server.clock.advance(0)
    assert kept.closing
    assert not fresh.closing
    server.clock.advance(1)
    assert fresh.closing
    assert not drained.called
    fresh.gone()
    kept.gone()
    assert drained.called


def test_warning() -> None:
    """Who has to do something before draining begins is told, and what is ended by that is not waited for."""
    server = Server()
    client = server.connect(GET)
    server.connections.before_draining(server.resource.answer)
    drained = server.connections.drain()
    assert b"ok" in client.transport.value()
    server.clock.advance(0)
    assert client.closing
    client.gone()
    assert drained.called


def test_an_answer_is_finished() -> None:
    """A request that is being answered is answered to its end, and then the connection closes."""
    server = Server()
    client = server.connect(GET)
    drained = server.connections.drain()
    assert not client.closing
    server.resource.answer()
    assert client.transport.value().endswith(b"\r\n\r\nok")
    assert client.closing
    assert not drained.called
    client.gone()
    assert drained.called


def test_no_further_request() -> None:
    """What the client sends after its last answer is not answered any more."""
    server = Server()
    client = server.connect(GET + GET)
    server.connections.drain()
    server.resource.answer()
    assert client.closing
    assert server.resource.requests == []


def test_a_request_that_arrives_late() -> None:
    """A request whose head was on its way is answered, and told that the connection closes."""
    server = Server()
    client = server.connect(GET[:20])
    server.connections.drain()
    client.channel.dataReceived(GET[20:])
    server.resource.answer()
    assert b"\r\nConnection: close\r\n" in client.transport.value()
    assert client.closing


def test_a_connection_that_arrives_late() -> None:
    """A connection that was accepted in the last moment gets one answer, if it asks soon."""
    server = Server()
    client = server.connect()
    server.connections.drain()
    late, silent = server.connect(), server.connect()
    for asking in (client, late):
        asking.channel.dataReceived(GET)
        server.resource.answer()
        assert b"\r\nConnection: close\r\n" in asking.transport.value()
        assert asking.closing
        asking.gone()
    server.clock.advance(1)
    assert silent.closing
    silent.gone()
    server.site.stopFactory()
    assert server.clock.getDelayedCalls() == []


def test_a_request_that_is_in_the_socket() -> None:
    """What a client sent on a kept connection before it could know of the end is answered."""
    server = Server()
    client = server.connect(GET)
    server.resource.answer()
    server.connections.drain()
    client.channel.dataReceived(GET)
    server.clock.advance(0)
    assert not client.closing
    server.resource.answer()
    assert client.transport.value().count(b"200 OK") == 2
    assert client.closing


def test_cut_off() -> None:
    """Who is left can be cut off."""
    server = Server()
    client = server.connect(GET)
    gone = server.connections.abort()
    assert client.transport.disconnected
    assert not gone.called
    client.gone()
    assert gone.called


def test_giving_up_waiting() -> None:
    """Who stops waiting disturbs nobody else that waits."""
    server = Server()
    client = server.connect(GET)
    impatient, patient = server.connections.drain(), server.connections.drain()
    impatient.addErrback(lambda _: None)
    impatient.cancel()
    client.gone()
    assert patient.called


def test_bases() -> None:
    """A site's own kind of channel stays what it is."""

    class Own(HTTPChannel):
        """A channel that closes after each answer."""

        def checkPersistence(self, request: object, version: bytes) -> bool:
            return False

    server = Server()
    server.site.protocol = Own  # type: ignore[method-assign,assignment]  # a site's protocol is meant to be set
    server.connections.watch(server.site)
    client = server.connect(GET)
    assert isinstance(client.channel, Own)
    server.resource.answer()
    assert client.closing
