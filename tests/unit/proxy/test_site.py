"""The data site's connections, as clients see them: raw bytes in, raw bytes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from unittest.mock import patch

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from tests.unit.certificates import certificate
from tests.unit.proxy.front import Front
from tests.unit.scripted import Peer, Stubborn, eventually, pause
from txglancecache.clients import channel as clients_channel
from txglancecache.clients.channel import LINGER_TIME
from txglancecache.errors import RequestBodyBroken
from txglancecache.proxy import channel as channel_module
from txglancecache.proxy.site import data_site

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest_twisted.async_yield_fixture
async def front() -> AsyncIterator[Front]:
    front = Front.before(echo)
    yield front
    await front.stop()


async def echo(peer: Peer) -> None:
    """Answers with what it was asked."""
    while True:
        head, body = await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head + body), head, body)


async def echoed(client: Peer) -> bytes:
    """What the origin got."""
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return await client.take(int(length))


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\tA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\t: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x0bc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x7f\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\xe4: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\na",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\na",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\na",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n" + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_heads_that_can_be_read_in_more_than_one_way(front: Front, head: bytes) -> None:
    """Are refused at once, and nothing of them gets to the origin."""
    client = await front.ask(head + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.gone()
    assert bytes(client.data) == BAD_REQUEST
    assert front.origin.peers == []
    assert front.requests == []


@pytest_twisted.ensureDeferred
async def test_a_bad_head_that_comes_in_pieces(front: Front) -> None:
    """Byte by byte it is as bad."""
    client = await front.connect()
    for byte in b"GET / HTTP/1.1\nHost: x\n":
        client.send(bytes([byte]))
        await pause()
    await client.gone()
    assert bytes(client.data) == BAD_REQUEST


@pytest_twisted.ensureDeferred
async def test_a_head_without_end(front: Front) -> None:
    """Is refused once it is too long."""
    client = await front.ask(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000)
    assert (await client.head()).startswith(b"HTTP/1.1 431 ")
    client = await front.ask(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 30_000)
    assert (await client.head()).startswith(b"HTTP/1.1 431 ")


@pytest_twisted.ensureDeferred
async def test_long_tokens(front: Front) -> None:
    """Are let through."""
    token = b"t" * 40_000
    client = await front.ask(b"GET / HTTP/1.1\r\nHost: x\r\nX-Auth-Token: %s\r\n\r\n" % token)
    assert token in await echoed(client)


@pytest_twisted.ensureDeferred
async def test_connect(front: Front) -> None:
    """Is not for this kind of proxy."""
    client = await front.ask(b"CONNECT glance:9292 HTTP/1.1\r\nHost: glance:9292\r\n\r\n")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, ")


@pytest_twisted.ensureDeferred
async def test_one_request_after_the_other(front: Front) -> None:
    """On one connection, also when they come before their turn, with bodies of either kind."""
    requests = [
        b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\na\nb\r\n\r\n",
        b"PUT /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n",
        b"3;x=y\r\na\nb\r\n0\r\nTrailer: z\r\n\r\n",
        b"POST /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"\r\nGET /5 HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n",
    ]
    client = await front.ask(*requests)
    assert (await echoed(client)).startswith(b"GET /1 ")
    assert (await echoed(client)).endswith(b"Content-Length: 7\r\n\r\na\nb\r\n\r\n")
    assert (await echoed(client)).endswith(b"Transfer-Encoding: chunked\r\n\r\na\nb")
    assert b"Content-Length: 0\r\n" in await echoed(client)
    head = await client.head()
    assert b"Connection: close\r\n" in head
    await client.gone()
    assert client.data.startswith(b"GET /5 ")


@pytest_twisted.ensureDeferred
async def test_processed_when_the_head_is_in(front: Front) -> None:
    """The body may come much later, and is kept nowhere."""
    client = await front.ask(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    await eventually(lambda: len(front.origin.peers) == 1 and front.origin.peers[0].received > 0)
    (request,) = front.requests
    assert request.content is None
    assert request.body is not None
    assert request.body.length == 5
    client.send(b"hello")
    assert (await echoed(client)).endswith(b"\r\n\r\nhello")


@pytest_twisted.ensureDeferred
async def test_routing(front: Front) -> None:
    """By decoded paths; whatever is odd about a path or a host goes the general way, as it came."""
    client = await front.ask(b"GET /v2/images/%61bc/file HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.head()
    await client.until(lambda: bytes(client.data).endswith(b"image abc\r\n0\r\n\r\n"))
    odd = [
        (b"GET", b"//v2/images/a/file"),
        (b"GET", b"/v2//images/a/file"),
        (b"GET", b"/v2/images//file"),
        (b"GET", b"/v2/images/a/file/"),
        (b"PUT", b"/v2/images/a/file"),
        (b"GET", b"/v2/images/%ff/file"),
        (b"GET", b"/v2/images/a%2ffile"),
        (b"GET", b"/%"),
        (b"GET", b"/../v2/./images/a/file?x=//"),
        (b"GET", b"//"),
        (b"OPTIONS", b"*"),
        (b"TRACE", b"/"),
        (b"X-odd!", b"/"),
    ]
    for method, target in odd:
        client = await front.ask(b"%s %s HTTP/1.1\r\nHost: a..b\r\n\r\n" % (method, target))
        got = await echoed(client)
        assert got.startswith(b"%s %s HTTP/1.1\r\nHost: a..b\r\n" % (method, target))


@pytest_twisted.ensureDeferred
async def test_a_url_for_a_target(front: Front) -> None:
    """Its authority is the Host, whatever Host says."""
    client = await front.ask(b"GET http://real:1/v2?x HTTP/1.1\r\nhost: other\r\nA: b\r\n\r\n")
    assert (await echoed(client)).startswith(b"GET /v2?x HTTP/1.1\r\nHost: real:1\r\nA: b\r\n")
    assert front.requests[0].getHeader(b"host") == b"real:1"


@pytest_twisted.ensureDeferred
async def test_answered_without_reading_the_body(front: Front) -> None:
    """The client gets the whole answer while it is still sending, and then the connection ends."""
    client = await front.ask(
        b"PUT /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + bytes(100_000)
    )
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 409 Conflict\r\n")
    assert b"Connection: close\r\n" in head
    client.send(bytes(2_000_000))
    await client.until(lambda: b"0\r\n\r\n" in client.data)
    assert b"not wanted" in client.data
    client.close()
    await client.gone()


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_its_answer_only_in_the_end(front: Front) -> None:
    """Finds it there."""
    client = await front.ask(b"PUT /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
    client.pause()
    for _ in range(50):
        client.send(bytes(1_000_000))
        await eventually(lambda: client.transport._tempDataLen == 0)
    client.resume()
    reason = await client.gone()
    assert isinstance(reason.value, ConnectionDone)
    assert b"not wanted" in client.data


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_on_sending(front: Front) -> None:
    """Is listened to for a while, and no longer."""
    head = b"PUT /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n"
    with patch.object(clients_channel, "LINGER_SIZE", 3_000_000):
        client = await front.ask(head, kind=Stubborn)
        await client.head()
        while client.reason is None:
            if client.transport._tempDataLen < 1_000_000:
                client.send(bytes(100_000))
            await pause()
    assert not isinstance(client.reason.value, ConnectionDone)
    with patch.object(channel_module, "LINGER_TIME", 0.05):
        client = await front.ask(head, kind=Stubborn)
        while client.reason is None:
            client.send(b"x")
            await pause(0.01)
    assert not isinstance(client.reason.value, ConnectionDone)
    assert b"not wanted" in client.data


@pytest_twisted.ensureDeferred
async def test_bad_chunks(front: Front) -> None:
    """The client is told; the origin sees a broken request."""
    client = await front.ask(
        b"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    )
    await eventually(lambda: len(front.origin.peers) == 1 and b"hello" in front.origin.peers[0].data)
    client.send(b"nonsense\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.gone()
    assert bytes(client.data) == BAD_REQUEST
    reason = await front.origin.peers[0].gone()
    assert not isinstance(reason.value, ConnectionDone)
    assert not front.origin.peers[0].data.endswith(b"0\r\n\r\n")
    assert len(front.requests) == 1


@pytest_twisted.ensureDeferred
async def test_bad_chunks_at_once(front: Front) -> None:
    """A body that is broken in the same read as the head is refused too."""
    client = await front.ask(b"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
    await client.gone()
    assert bytes(client.data) == BAD_REQUEST


@pytest_twisted.ensureDeferred
async def test_bad_chunks_after_the_answer_has_begun(front: Front) -> None:
    """There is no second answer on the same connection."""

    async def early(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")

    front.origin.scripts = (early,)
    client = await front.ask(b"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.until(lambda: bytes(client.data).endswith(b"begin"))
    client.send(b"nonsense\r\n")
    reason = await client.gone()
    assert not isinstance(reason.value, ConnectionDone)
    assert b"400" not in client.data
    await front.origin.peers[0].gone()


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_within_its_body(front: Front) -> None:
    """The origin sees a broken request, sized or chunked."""
    for number, framing in enumerate((b"Content-Length: 20", b"Transfer-Encoding: chunked"), 1):
        client = await front.ask(b"PUT /x HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n5\r\nhello\r\n" % framing)
        await eventually(lambda number=number: len(front.origin.peers) == number)  # type: ignore[misc]
        await front.origin.peers[-1].until(lambda: b"hello" in front.origin.peers[-1].data)
        client.close()
        reason = await front.origin.peers[-1].gone()
        assert not isinstance(reason.value, ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_while_it_waits(front: Front) -> None:
    """Cancels what was going on for it, and nothing is logged about it."""

    async def mute(peer: Peer) -> None:
        await peer.gone()

    front.origin.scripts = (mute,)
    client = await front.ask(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: len(front.origin.peers) == 1)
    client.close()
    await front.origin.peers[0].gone()
    client = await front.ask(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: len(front.requests) == 2)
    client.reset()
    await eventually(lambda: front.requests[1].channel is None)


@pytest_twisted.ensureDeferred
async def test_http_1_0(front: Front) -> None:
    """Gets its answer and the end of the connection. It need not name a host."""
    client = await front.ask(b"PUT /x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
    await client.gone()
    head, _, body = bytes(client.data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Connection: close" in head
    assert body.startswith(b"PUT /x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % front.origin.number)
    assert b"Via: 1.0 cache\r\n" in body
    assert b"Expect" not in body


def channel_on(
    transport: StringTransport, clock: Clock, render: Callable[..., Awaitable[None]] | None = None
):  # type: ignore[no-untyped-def]
    """A connection of a site that never answers."""

    class Silent(Resource):
        isLeaf = True

        def render(self, request):  # type: ignore[no-untyped-def]
            requests.append(request)
            return 1  # NOT_DONE_YET

    requests: list = []
    site = data_site(Silent(), reactor=clock)
    channel = site.buildProtocol(None)
    channel.makeConnection(transport)
    return channel, requests


def test_a_body_that_does_not_come() -> None:
    """Its client is told so after the time for it, and the consumer of the body too."""
    clock, transport = Clock(), StringTransport()
    channel, requests = channel_on(transport, clock)
    clock.advance(29)
    channel.dataReceived(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    (request,) = requests
    failures: list[Failure] = []
    request.body.startProducing(StringTransport()).addErrback(failures.append)
    clock.advance(59)
    assert not transport.value()
    clock.advance(1)
    assert transport.value().startswith(b"HTTP/1.1 408 ")
    assert request.channel is None
    assert failures[0].check(RequestBodyBroken)


def test_a_body_that_drips() -> None:
    """Is not waited for either; one that comes as fast as it must is, however long it is."""
    clock, transport = Clock(), StringTransport()
    channel, requests = channel_on(transport, clock)
    channel.dataReceived(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    requests[0].body.startProducing(StringTransport())
    for _ in range(600):
        clock.advance(1)
        channel.dataReceived(bytes(1100))
    assert not transport.value()
    for _ in range(120):
        clock.advance(1)
        channel.dataReceived(b"x")
    assert transport.value().startswith(b"HTTP/1.1 408 ")


def test_clients_that_are_kept_waiting_are_not_idle() -> None:
    """Neither while nobody takes their body nor while they wait for an answer."""
    clock, transport = Clock(), StringTransport()
    channel, requests = channel_on(transport, clock)
    channel.dataReceived(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    (request,) = requests
    assert transport.producerState == "paused"
    clock.advance(1000)
    request.body.startProducing(StringTransport())
    assert transport.producerState == "producing"
    request.body.pauseProducing()
    assert transport.producerState == "paused"
    clock.advance(1000)
    request.body.resumeProducing()
    channel.dataReceived(b"hello")
    clock.advance(1000)
    assert not transport.disconnecting
    request.write(b"done")
    request.finish()
    clock.advance(60)
    assert transport.disconnecting


def test_a_full_send_buffer_does_not_undo_the_wait_for_the_body() -> None:
    """The two reasons not to read are independent."""
    clock, transport = Clock(), StringTransport()
    channel, requests = channel_on(transport, clock)
    channel.dataReceived(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n")
    body = requests[0].body
    channel.pauseProducing()
    channel.resumeProducing()
    assert transport.producerState == "paused"
    body.startProducing(StringTransport())
    assert transport.producerState == "producing"
    channel.pauseProducing()
    body.pauseProducing()
    body.resumeProducing()
    assert transport.producerState == "paused"
    channel.resumeProducing()
    assert transport.producerState == "producing"
    channel.pauseProducing()
    body.stopProducing()
    assert transport.producerState == "producing"
    channel.pauseProducing()
    assert transport.producerState == "producing"


@pytest.mark.parametrize("started", [True, False])
def test_a_client_that_is_gone_cannot_complete_its_body(started: bool) -> None:
    """Whoever waits for the rest is told so, now or later."""
    channel, requests = channel_on(StringTransport(), Clock())
    channel.dataReceived(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhello")
    body = requests[0].body
    results: list = []
    if started:
        body.startProducing(StringTransport()).addBoth(results.append)
    channel.connectionLost(Failure(ConnectionDone()))
    if not started:
        body.startProducing(StringTransport()).addBoth(results.append)
    assert results[0].value.received == 5


def test_lingering_ends() -> None:
    """By force, if the client does not see that it is over."""
    clock, transport = Clock(), StringTransport()
    channel, requests = channel_on(transport, clock)
    channel.dataReceived(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n")
    requests[0].write(b"early")
    requests[0].finish()
    assert b"Connection: close\r\n" in transport.value()
    channel.dataReceived(b"GET / HTTP/1.1\r\n")
    clock.advance(LINGER_TIME - 1)
    assert not transport.disconnected
    clock.advance(1)
    assert transport.disconnected
    assert len(requests) == 1


@pytest_twisted.ensureDeferred
async def test_tls(front: Front) -> None:
    """What works on plain connections works there, and the origin is told."""
    server, authority = certificate(name="localhost")
    port = reactor.listenSSL(0, front.site, server.options(), interface="127.0.0.1")
    trusting = optionsForClientTLS("localhost", trustRoot=authority)
    endpoint = wrapClientTLS(trusting, TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port))
    client: Peer = await connectProtocol(endpoint, Peer())
    client.send(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", bytes(100_000))
    got = await echoed(client)
    assert b"X-Forwarded-Proto: https\r\n" in got
    assert got.endswith(bytes(100_000))
    client.send(b"PUT /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n", bytes(200_000))
    await client.until(lambda: client.data.endswith(b"not wanted\r\n0\r\n\r\n"))
    client.reset()
    await client.gone()
    await port.stopListening()


def test_only_http_1_1_is_offered_over_tls() -> None:
    """A stream of HTTP/2 is none of the connections that this site knows how to read."""
    site = data_site(Resource(), reactor=Clock())
    assert site.acceptableProtocols() == [b"http/1.1"]
