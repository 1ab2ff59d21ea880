"""The client over real sockets, with origins that do what origins do."""

from __future__ import annotations

import gc
import select
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.logger import LogLevel, capturedLogs
from zope.interface import implementer

from tests.unit.authority import Authority
from tests.unit.certificates import certificate
from tests.unit.origin.bodies import Body
from tests.unit.scripted import Peer, Script, ScriptedServer, eventually, listen, pause, settled
from txglancecache.errors import (
    OriginBusy,
    OriginProtocolError,
    OriginTimeout,
    OriginUnreachable,
    RequestBodyBroken,
)
from txglancecache.origin.client import Head, OriginClient, OriginURL
from txglancecache.service.certificates import tls_towards

HOST = [(b"Host", b"glance")]


@implementer(IHostnameResolver, IHostResolution)
class Names:
    """Knows every name, or none."""

    name = ""
    known = False

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> Names:
        self.name = hostName
        resolutionReceiver.resolutionBegan(self)
        if self.known:
            resolutionReceiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        resolutionReceiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        raise AssertionError("it is over at once")


@pytest_twisted.async_yield_fixture
async def net() -> AsyncIterator[Net]:
    net = Net()
    with capturedLogs() as logged:
        yield net
        await net.stop()
        gc.collect(1)
    assert [event for event in logged if event["log_level"] >= LogLevel.error] == []


class Net:
    """What a test sets up, to be torn down together."""

    def __init__(self) -> None:
        self.servers: list[ScriptedServer] = []
        self.clients: list[OriginClient] = []

    def origin(self, *scripts: Script, interface: str = "127.0.0.1") -> ScriptedServer:
        self.servers.append(listen(*scripts, interface=interface))
        return self.servers[-1]

    def secure_origin(self, pem: Path, asks_for: Path | None = None) -> ScriptedServer:
        """An origin that speaks TLS; ``asks_for``: who has to vouch for its clients."""
        server = ScriptedServer((hello,))
        trust = trustRootFromCertificates([Certificate.loadPEM(asks_for.read_bytes())]) if asks_for else None
        options = PrivateCertificate.loadPEM(pem.read_bytes()).options()
        options = CertificateOptions(options.privateKey, options.certificate, trustRoot=trust)
        server.port = reactor.listenSSL(0, server, options, interface="127.0.0.1")
        self.servers.append(server)
        return server

    def client(
        self, number: int, host: str = "127.0.0.1", scheme: str = "http", **options: Any
    ) -> OriginClient:
        settings = {"connect_timeout": 20.0, "response_timeout": 20.0, "max_connections": 8} | options
        self.clients.append(OriginClient(reactor, OriginURL(scheme, host, number), **settings))
        return self.clients[-1]

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        for server in self.servers:
            await server.stop()


async def hello(peer: Peer) -> None:
    """Answers every request, and keeps the connection."""
    while True:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def get(client: OriginClient, method: bytes = b"GET") -> bytes:
    return await (await client.request(method, b"/", HOST)).collect(1000)


@pytest.mark.parametrize(
    ("text", "origin", "netloc"),
    [
        ("http://glance:9292", OriginURL("http", "glance", 9292), b"glance:9292"),
        ("https://glance.example/", OriginURL("https", "glance.example", 443), b"glance.example"),
        ("http://[::1]:80", OriginURL("http", "::1", 80), b"[::1]"),
        (
            "http://bücher.example:8080",
            OriginURL("http", "bücher.example", 8080),
            b"xn--bcher-kva.example:8080",
        ),
    ],
)
def test_an_origin_is_a_host(text: str, origin: OriginURL, netloc: bytes) -> None:
    """Scheme, host and port; its ``Host`` leaves a default port out."""
    assert OriginURL.parse(text) == origin
    assert origin.netloc == netloc


@pytest.mark.parametrize(
    "text",
    ["glance:9292", "ftp://x", "http://", "http://x/v2", "http://x?y", "http://u@x", "http://x:port", ""],
)
def test_anything_else_is_no_origin(text: str) -> None:
    """A path prefix above all: links in bodies are root-relative."""
    with pytest.raises(ValueError, match=r"URL|more than|Port"):
        OriginURL.parse(text)


@pytest_twisted.ensureDeferred
async def test_requests_share_a_connection(net: Net) -> None:
    """One after the other; requests that cannot be repeated come on new ones."""
    origin = net.origin(hello)
    client = net.client(origin.number)
    assert await get(client) == b"hello"
    assert await get(client) == b"hello"
    assert len(origin.peers) == 1
    assert await get(client, b"POST") == b"hello"
    assert len(origin.peers) == 2
    assert await get(client) == b"hello"
    assert len(origin.peers) == 2


@pytest_twisted.ensureDeferred
async def test_every_byte_of_the_request_is_the_callers(net: Net) -> None:
    """Target, spelling, order and duplicates."""
    heads = []

    async def note(peer: Peer) -> None:
        heads.append(await peer.head())
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    client = net.client(net.origin(note).number)
    headers = [(b"Host", b"a"), (b"x-B", b"\xff"), (b"X-b", b""), (b"Cookie", b"c=d")]
    await client.request(b"M-SEARCH", b"//%2F/%zz?a=b&&", headers)
    assert heads == [
        b"M-SEARCH //%2F/%zz?a=b&& HTTP/1.1\r\nHost: a\r\nx-B: \xff\r\nX-b: \r\nCookie: c=d\r\n\r\n"
    ]


@pytest_twisted.ensureDeferred
async def test_a_stale_connection_is_replaced_where_that_is_safe(net: Net) -> None:
    """The origin closes as the second request arrives; a GET is sent again on a new connection."""

    async def once(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
        await peer.head()
        peer.reset()

    origin = net.origin(once, hello)
    client = net.client(origin.number)
    assert await get(client) == b"first"
    assert await get(client) == b"hello"
    assert len(origin.peers) == 2


@pytest_twisted.ensureDeferred
async def test_an_origin_that_always_closes(net: Net) -> None:
    """Is not asked for ever."""

    async def once(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
        await peer.head()
        peer.close()

    async def never(peer: Peer) -> None:
        await peer.head()
        peer.close()

    origin = net.origin(once, never)
    client = net.client(origin.number)
    await get(client)
    with pytest.raises(OriginProtocolError, match="without an answer"):
        await get(client)
    assert len(origin.peers) == 2


@pytest_twisted.ensureDeferred
async def test_nobody_listens(net: Net) -> None:
    """A refused connection is an origin that is unreachable."""
    origin = listen(hello)
    number = origin.number
    await origin.stop()
    with pytest.raises(OriginUnreachable, match="refused"):
        await get(net.client(number))


@pytest_twisted.ensureDeferred
async def test_nobody_accepts(net: Net) -> None:
    """A connection that does not come about in time is given up."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        with pytest.raises(OriginTimeout, match=r"within 0\.2 s"):
            await get(net.client(full.getsockname()[1], connect_timeout=0.2))
        for filler in fillers:
            filler.close()


@pytest_twisted.ensureDeferred
async def test_an_origin_that_says_nothing(net: Net) -> None:
    """Times out, and its connection is reset."""

    async def mute(peer: Peer) -> None:
        await peer.gone()

    origin = net.origin(mute)
    with pytest.raises(OriginTimeout):
        await get(net.client(origin.number, response_timeout=0.1))
    reason = await origin.peers[0].gone()
    assert not isinstance(reason.value, ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_all_connections_in_use(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits for one, but not long."""

    async def slow(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")

    client = net.client(net.origin(slow).number, max_connections=1)
    holder = await client.request(b"GET", b"/", HOST)
    with monkeypatch.context() as impatient:
        impatient.setattr(client._pool, "_patience", 0.1)
        with pytest.raises(OriginBusy):
            await get(client)
    waiting = Deferred.fromCoroutine(client.request(b"GET", b"/", HOST))
    holder.abandon()
    (await waiting).abandon()


@pytest_twisted.ensureDeferred
async def test_ipv6(net: Net) -> None:
    """An address in brackets is one too."""
    try:
        origin = net.origin(hello, interface="::1")
    except CannotListenError:
        return  # a machine without IPv6
    assert await get(net.client(origin.number, host="::1")) == b"hello"


@pytest_twisted.ensureDeferred
async def test_a_host_name(net: Net) -> None:
    """Is looked up."""
    assert await get(net.client(net.origin(hello).number, host="localhost")) == b"hello"


@pytest.mark.parametrize("name", ["glance.example", "glance_api"])
@pytest_twisted.ensureDeferred
async def test_a_name_that_is_not_known_yet(net: Net, name: str) -> None:
    """Is asked for again for each connection. It may be one that only a container would have."""
    client, names = net.client(net.origin(hello).number, host=name), Names()
    before = reactor.installNameResolver(names)
    try:
        with pytest.raises(OriginUnreachable, match=name):
            await get(client)
        names.known = True
        assert await get(client) == b"hello"
    finally:
        reactor.installNameResolver(before)


@pytest_twisted.ensureDeferred
async def test_cancelling_a_request(net: Net) -> None:
    """The origin sees the connection go."""

    async def mute(peer: Peer) -> None:
        await peer.gone()

    origin = net.origin(mute)
    request = Deferred.fromCoroutine(net.client(origin.number).request(b"GET", b"/", HOST))
    await eventually(lambda: len(origin.peers) == 1 and origin.peers[0].received > 0)
    request.cancel()
    with pytest.raises(CancelledError):
        await request
    await origin.peers[0].gone()


@pytest_twisted.ensureDeferred
async def test_cancelling_a_request_while_it_connects(net: Net) -> None:
    """Is a cancellation and nothing else, at whatever point."""
    client = net.client(net.origin(hello).number)
    for turns in range(4):
        request = Deferred.fromCoroutine(client.request(b"POST", b"/", HOST))
        for _ in range(turns):
            await pause()
        request.cancel()
        with pytest.raises(CancelledError):
            await request


@pytest_twisted.ensureDeferred
async def test_a_body_at_the_consumers_pace(net: Net) -> None:
    """An origin that sends faster than is taken is made to wait."""
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        while sent < 64:
            while peer.transport._tempDataLen > 2**20:  # the reactor's own buffer
                await pause(0.001)
            peer.send(bytes(2**20))
            sent += 1
        await peer.gone()

    response = await net.client(net.origin(flood).number).request(b"GET", b"/", HOST)
    taken = 0

    def receive(data: bytes) -> None:
        nonlocal taken
        taken += len(data)

    done = response.deliver(receive)
    await eventually(lambda: taken > 0)
    response.pauseProducing()
    taken_then = taken
    assert await settled(lambda: sent) < 40
    assert taken == taken_then
    response.resumeProducing()
    await done
    assert taken == 2**26


@pytest_twisted.ensureDeferred
async def test_an_upload_at_the_origins_pace(net: Net) -> None:
    """A body is paused while the origin does not read, and resumed when it does."""

    full: Deferred[None] = Deferred()

    async def slow(peer: Peer) -> None:
        peer.pause()
        await full
        peer.resume()
        await peer.request()
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    body = Body(length=2**24)
    coming = Deferred.fromCoroutine(net.client(net.origin(slow).number).request(b"PUT", b"/", HOST, body))
    await eventually(lambda: body.events == ["start"])
    written = 0
    while "pause" not in body.events:
        body.consumer.write(bytes(2**16))
        written += 2**16
        await pause()
    assert written < 2**23
    full.callback(None)
    await eventually(lambda: body.events[-1] == "resume")
    body.consumer.write(bytes(2**24 - written))
    body.done.callback(None)
    assert (await coming).head.status == 204


@pytest_twisted.ensureDeferred
async def test_an_upload_that_breaks_off(net: Net) -> None:
    """The origin sees a reset, not the end of a body."""

    async def reader(peer: Peer) -> None:
        await peer.request()

    origin = net.origin(reader)
    body = Body()
    coming = Deferred.fromCoroutine(net.client(origin.number).request(b"PUT", b"/", HOST, body))
    await eventually(lambda: body.events == ["start"])
    body.consumer.write(b"hello")
    await eventually(lambda: bool(origin.peers) and b"5\r\nhello\r\n" in origin.peers[0].data)
    body.done.errback(RequestBodyBroken(5))
    with pytest.raises(RequestBodyBroken):
        await coming
    assert not isinstance((await origin.peers[0].gone()).value, ConnectionDone)
    assert not origin.peers[0].data.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("size", [4, 50_000])
@pytest_twisted.ensureDeferred
async def test_refused_and_reset(net: Net, size: int) -> None:
    """An origin that answers an upload early and closes without reading it: its answer is not lost."""

    async def refuse(peer: Peer) -> None:
        peer.pause()
        await pause(0.02)
        peer.send(b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await peer.sent()
        peer.close()

    client = net.client(net.origin(refuse).number)
    for _ in range(10):
        body = Body()
        coming = Deferred.fromCoroutine(client.request(b"PUT", b"/", HOST, body))
        await eventually(lambda body=body: body.events == ["start"])
        while "stop" not in body.events:
            if body.events[-1] != "pause":
                body.consumer.write(bytes(2**16))
            await pause()
        response = await coming
        assert response.head.status == 409
        await pause(0.005)
        assert len(await response.collect(size)) == size


@pytest_twisted.ensureDeferred
async def test_refused_and_reset_before_it_was_read(net: Net) -> None:
    """The write that fails may come before the read that would have got the answer."""

    full: Deferred[None] = Deferred()

    async def refuse(peer: Peer) -> None:
        await peer.head()
        peer.pause()
        await full
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
        await pause(0.01)
        peer.close()

    client = net.client(net.origin(refuse).number)
    body = Body()
    coming = Deferred.fromCoroutine(client.request(b"PUT", b"/", HOST, body))
    await eventually(lambda: body.events == ["start"])
    body.consumer.write(bytes(2**24))
    (connection,) = client._pool._open
    connection.transport.stopReading()
    full.callback(None)
    response = await coming
    assert connection.lost
    assert response.head.status == 413
    assert await response.collect(10) == b"large"


@pytest_twisted.ensureDeferred
async def test_interim_answers(net: Net) -> None:
    """Come before the body is sent."""

    async def expecting(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.take(5) == b"hello"
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    body = Body(length=5)
    interim: list[Head] = []

    def send(head: Head) -> None:
        interim.append(head)
        body.consumer.write(b"hello")
        body.done.callback(None)

    client = net.client(net.origin(expecting).number)
    response = await client.request(
        b"PUT", b"/", [*HOST, (b"Expect", b"100-continue")], body, on_interim=send
    )
    assert response.head.status == 204
    assert interim == [Head(100, b"Continue", ())]


@pytest_twisted.ensureDeferred
async def test_taking_the_socket_over(net: Net) -> None:
    """What was read already comes with it, the rest is read by whoever has it."""

    taken: Deferred[None] = Deferred()

    async def serve(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await taken
        peer.send(b"world")
        await peer.gone()

    origin = net.origin(serve)
    response = await net.client(origin.number).request(b"GET", b"/", HOST)
    detached = response.detach()
    assert detached is not None
    assert detached.buffered == b"hello"
    assert detached.socket.getblocking() is False
    taken.callback(None)
    poll = select.poll()
    poll.register(detached.socket, select.POLLIN)
    await eventually(lambda: bool(poll.poll(0)))
    assert detached.socket.recv(100) == b"world"
    assert response.detach() is None
    response.abandon()
    assert origin.peers[0].reason is None
    detached.close()
    await origin.peers[0].gone()


@pytest_twisted.ensureDeferred
async def test_closing(net: Net) -> None:
    """Fails what is under way, and leaves no connection."""

    async def mute(peer: Peer) -> None:
        await peer.head()

    origin = net.origin(mute)
    client = net.client(origin.number)
    request = Deferred.fromCoroutine(client.request(b"GET", b"/", HOST))
    await eventually(lambda: len(origin.peers) == 1)
    await client.close()
    with pytest.raises(OriginUnreachable):
        await request
    with pytest.raises(OriginUnreachable, match="shutting down"):
        await get(client)


@pytest_twisted.ensureDeferred
async def test_tls(net: Net) -> None:
    """With the operator's own authority; without it the origin is not trusted."""
    server, authority = certificate(name="localhost")
    origin = ScriptedServer((hello,))
    origin.port = reactor.listenSSL(0, origin, server.options(), interface="127.0.0.1")
    net.servers.append(origin)
    trusting = optionsForClientTLS("localhost", trustRoot=authority)
    client = net.client(origin.number, "localhost", "https", tls_options=trusting)
    response = await client.request(b"GET", b"/", HOST)
    assert response.detach() is None
    assert await response.collect(10) == b"hello"
    assert await get(client) == b"hello"
    assert len(origin.peers) == 1


@pytest_twisted.ensureDeferred
async def test_tls_that_cannot_be_trusted(net: Net, tmp_path: Path) -> None:
    """An unknown authority, a certificate for somebody else or out of date, or no TLS: each is said in one
    line, nothing is sent, and there is no way around it."""

    async def confused(peer: Peer) -> None:
        await peer.take(1)
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    known, unknown = Authority(tmp_path), Authority(tmp_path, "unknown")
    good = net.secure_origin(known.issue("CN=glance", server=True))
    old = net.secure_origin(known.issue("CN=glance", server=True, expired=True))
    plain = net.origin(confused)
    ca_file = str(known.certificate)
    for origin, host, ca, reason in (
        (good, "localhost", None, "certificate verify failed"),
        (good, "localhost", str(unknown.certificate), "certificate verify failed"),
        (good, "127.0.0.1", ca_file, "its certificate is for another host"),
        (old, "localhost", ca_file, "certificate verify failed"),
        (plain, "localhost", ca_file, "wrong version number|record layer failure"),
    ):
        tls = tls_towards(host, ca, None, None)
        with pytest.raises(OriginUnreachable, match=f"^no TLS with the origin: ({reason})$"):
            await get(net.client(origin.number, host, "https", tls_options=tls))
        assert all(b"HTTP" not in peer.data for peer in origin.peers)
    # And TLS is nothing to a client that was told of none.
    with pytest.raises(OriginProtocolError):
        await get(net.client(good.number, "localhost"))
    trusting = tls_towards("localhost", ca_file, None, None)
    assert await get(net.client(good.number, "localhost", "https", tls_options=trusting)) == b"hello"


@pytest_twisted.ensureDeferred
async def test_tls_with_an_address(net: Net) -> None:
    """The certificate has to be for the address then."""
    server, authority = certificate(name="glance.example")
    origin = ScriptedServer((hello,))
    origin.port = reactor.listenSSL(0, origin, server.options(), interface="127.0.0.1")
    net.servers.append(origin)
    trusting = optionsForClientTLS("127.0.0.1", trustRoot=authority)
    assert await get(net.client(origin.number, scheme="https", tls_options=trusting)) == b"hello"


@pytest_twisted.ensureDeferred
async def test_an_origin_that_asks_who_we_are(net: Net, tmp_path: Path) -> None:
    """It is shown our certificate; without one, or with another's, the refusal is said to be TLS's."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    ca_file = str(authority.certificate)
    origin = net.secure_origin(authority.issue("CN=glance", server=True), asks_for=authority.certificate)
    mine, others = authority.issue("CN=node"), other.issue("CN=node")
    known = tls_towards("localhost", ca_file, str(mine), None)
    assert await get(net.client(origin.number, "localhost", "https", tls_options=known)) == b"hello"
    for cert_file in (None, str(others)):
        unknown = tls_towards("localhost", ca_file, cert_file, None)
        with pytest.raises(OriginUnreachable, match=r"^no TLS with the origin: \w+"):
            await get(net.client(origin.number, "localhost", "https", tls_options=unknown))


@pytest_twisted.ensureDeferred
async def test_tls_that_never_comes_up(net: Net) -> None:
    """Is part of the time a connection may take."""

    async def mute(peer: Peer) -> None:
        await peer.gone()

    origin = net.origin(mute)
    with pytest.raises(OriginTimeout):
        await get(net.client(origin.number, scheme="https", connect_timeout=1.0))
    await origin.peers[0].gone()
