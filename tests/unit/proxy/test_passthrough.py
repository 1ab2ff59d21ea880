"""Pass-through from a client's socket to the origin's and back."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.threads import deferToThread

from tests.unit.proxy.front import Front
from tests.unit.scripted import Peer, Script, eventually, pause, settled

GET = b"GET /x HTTP/1.1\r\nHost: glance\r\n\r\n"
PUT = b"PUT /x HTTP/1.1\r\nHost: glance\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest_twisted.async_yield_fixture
async def front() -> AsyncIterator[Front]:
    front = Front.before(mute)
    yield front
    await front.stop()


async def mute(peer: Peer) -> None:
    await peer.gone()


def saying(*answers: bytes, then: str = "wait") -> Script:
    """An origin that answers each request with the next of ``answers``, and then does as told."""

    async def say(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            peer.send(answer)
        if then == "wait":
            await peer.gone()
        else:
            peer.close()

    return say


# The request


@pytest_twisted.ensureDeferred
async def test_the_fields_of_a_request(front: Front) -> None:
    """Hop-by-hop ones stay here; the others keep spelling, order and duplicates; the proxy's are added."""
    client = await front.ask(
        b"GET /a%2Fb//c?d=%ff&&e HTTP/1.1\r\nhost: glance:9292\r\nx-a: 1\r\nAccept: text/*\r\nX-A: 2\r\n"
        b"Connection: keep-alive, x-secret\r\nX-Secret: s\r\nKeep-Alive: 1\r\nTE: trailers\r\n"
        b"Proxy-Authorization: p\r\nUpgrade: h2c\r\nx-empty:\r\nX-Bytes: \xe4\r\n"
        b"Via: 1.0 other\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n"
    )
    await eventually(lambda: len(front.origin.peers) == 1 and b"\r\n\r\n" in front.origin.peers[0].data)
    assert bytes(front.origin.peers[0].data) == (
        b"GET /a%2Fb//c?d=%ff&&e HTTP/1.1\r\nhost: glance:9292\r\nx-a: 1\r\nAccept: text/*\r\nX-A: 2\r\n"
        b"x-empty: \r\nX-Bytes: \xe4\r\nVia: 1.0 other, 1.1 cache\r\nX-Forwarded-For: 127.0.0.1\r\n"
        b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: glance:9292\r\n"
        b'Forwarded: for=127.0.0.1;host="glance:9292";proto=http\r\n\r\n'
    )
    client.close()


@pytest_twisted.ensureDeferred
async def test_a_client_without_an_address(front: Front) -> None:
    """Is unknown, as RFC 7239 calls it."""
    await front.ask(GET)
    await eventually(lambda: len(front.requests) == 1)
    request = front.requests[0]
    request.client = UNIXAddress("/run/x")
    assert (b"X-Forwarded-For", b"unknown") in front.pass_through.outgoing(request)


@pytest_twisted.ensureDeferred
async def test_a_trusted_proxy(front: Front) -> None:
    """Is believed, and appended to."""
    front.pass_through._trusted = lambda address: address == "127.0.0.1"
    await front.ask(GET[:-2] + b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\r\n")
    await eventually(lambda: len(front.requests) == 1)
    fields = dict(front.pass_through.outgoing(front.requests[0]))
    assert fields[b"X-Forwarded-For"] == b"9.9.9.9, 127.0.0.1"
    assert fields[b"X-Forwarded-Proto"] == b"https"


@pytest_twisted.ensureDeferred
async def test_a_request_that_may_not_be_forwarded_for_ever(front: Front) -> None:
    """Is counted down, and answered here when that is how far it was meant to go."""
    front.origin.scripts = (saying(b"HTTP/1.1 204 No Content\r\n\r\n"),)
    client = await front.ask(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 204 ")
    assert b"Via: 1.1 cache\r\n" in head
    client.send(b"TRACE / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 405 ")
    assert front.origin.peers == []
    client.send(b"TRACE / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 3\r\n\r\n")
    await client.head()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 3\r\n\r\n")
    await eventually(lambda: len(front.requests) == 4)
    outgoing = [dict(front.pass_through.outgoing(request)) for request in front.requests[2:]]
    assert [fields[b"Max-Forwards"] for fields in outgoing] == [b"2", b"3"]


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_open(front: Front) -> None:
    """However an exchange ends, its descriptors are closed."""

    async def refuse(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    front.origin.scripts = (refuse,)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for data in (PUT + b"5\r\nhello\r\n", PUT + b"bad", GET[:-20], GET):
            client = await front.ask(data)
            await pause(0.002)
            client.reset()
            await client.gone()
    await eventually(lambda: front.client._pool._open == set(front.client._pool._idle))
    await front.client.close()
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


# The answer


@pytest.mark.parametrize(
    ("request_line", "answer", "relayed"),
    [
        (
            b"GET",
            b"HTTP/1.1 207 Multi  Status\r\nset-cookie: a\r\nServer: o\r\nSet-Cookie: b\r\nX-Empty:\r\n"
            b"Content-Encoding: gzip\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
            b"Content-Length: 2\r\n\r\nok",
            b"HTTP/1.1 207 Multi  Status\r\nset-cookie: a\r\nServer: o\r\nSet-Cookie: b\r\nX-Empty: \r\n"
            b"Content-Encoding: gzip\r\nVia: 1.1 cache\r\nCache-Status: cache; fwd=bypass\r\n"
            b"Content-Length: 2\r\n\r\nok",
        ),
        (
            b"GET",
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\nTrailer: A\r\n\r\n"
            b"2;e=f\r\nok\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.1 200 \r\nVia: 1.1 cache\r\nCache-Status: cache; fwd=bypass\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        (
            b"GET",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nVia: 1.1 cache\r\nCache-Status: cache; fwd=bypass\r\n"
            b"Content-Length: 99\r\n\r\n",
        ),
        (
            b"DELETE",
            b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nVia: 1.0 o\r\nCache-Status: o; hit\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nCache-Status: o; hit\r\nVia: 1.0 o, 1.1 cache\r\n"
            b"Cache-Status: cache; fwd=bypass\r\n\r\n",
        ),
        (
            b"HEAD",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nVia: 1.1 cache\r\nCache-Status: cache; fwd=bypass\r\n"
            b"Content-Length: 99\r\n\r\n",
        ),
        (
            b"HEAD",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nVia: 1.1 cache\r\nCache-Status: cache; fwd=bypass\r\n\r\n",
        ),
        (
            b"PUT",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nVia: 1.1 cache\r\nCache-Status: cache; fwd=bypass\r\n"
            b"Content-Length: 0\r\n\r\n",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_answers(front: Front, request_line: bytes, answer: bytes, relayed: bytes) -> None:
    """Go out as they came in: nothing is added but what a proxy has to say, and the framing is its own."""
    front.origin.scripts = (saying(answer, answer),)
    client = await front.ask(request_line + GET[3:])
    assert await client.take(len(relayed)) == relayed
    client.send(request_line + GET[3:])
    assert await client.take(len(relayed)) == relayed
    assert not client.data
    assert len(front.origin.peers) == 1


@pytest_twisted.ensureDeferred
async def test_an_answer_that_ends_with_the_connection(front: Front) -> None:
    """Is chunked for those who know chunks, and ends with the connection for those who do not."""
    front.origin.scripts = (saying(b"HTTP/1.0 200 OK\r\n\r\nhello", then="close"),)
    client = await front.ask(GET)
    head = await client.head()
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert await client.take(15) == b"5\r\nhello\r\n0\r\n\r\n"
    client.send(GET)
    assert b"Transfer-Encoding: chunked\r\n" in await client.head()

    client = await front.ask(GET.replace(b"1.1", b"1.0"))
    head = await client.head()
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Transfer-Encoding" not in head
    assert isinstance((await client.gone()).value, ConnectionDone)
    assert client.data == b"hello"


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "close"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "close"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", "reset"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "reset"),
    ],
)
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_breaks_off(front: Front, answer: bytes, then: str, version: bytes) -> None:
    """Is never made to look whole."""

    async def break_off(peer: Peer) -> None:
        await peer.head()
        peer.send(answer)
        await eventually(lambda: b"hello" in client.data)
        getattr(peer, then)()

    front.origin.scripts = (break_off,)
    client = await front.ask(GET.replace(b"HTTP/1.1", version))
    reason = await client.gone()
    assert not isinstance(reason.value, ConnectionDone)
    assert not client.data.endswith(b"0\r\n\r\n")
    (warning,) = [event for event in front.events if "Broke off" in (event["log_format"] or "")]
    assert warning["path"] == b"/x"


@pytest_twisted.ensureDeferred
async def test_bad_chunks_after_the_head(front: Front) -> None:
    """Are a broken answer too."""

    async def nonsense(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await eventually(lambda: b"hello" in client.data)
        peer.send(b"nonsense\r\n")
        await peer.gone()

    front.origin.scripts = (nonsense,)
    client = await front.ask(GET)
    assert not isinstance((await client.gone()).value, ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_no_answer(front: Front) -> None:
    """Is an error of the application's, which can still be answered; the connection goes on."""
    front.origin.scripts = (saying(b"rubbish\r\n\r\n"),)
    client = await front.ask(GET)
    assert (await client.head()).startswith(b"HTTP/1.1 502 ")
    await client.until(lambda: client.data.endswith(b"0\r\n\r\n"))
    front.origin.scripts = (saying(b"HTTP/1.1 204 No Content\r\n\r\n"),)
    client.data.clear()
    client.send(GET)
    assert (await client.head()).startswith(b"HTTP/1.1 204 ")


# Both


@pytest_twisted.ensureDeferred
async def test_expecting_to_continue(front: Front) -> None:
    """It is the origin that says so."""

    async def expecting(peer: Peer) -> None:
        head = await peer.head()
        assert b"expect: 100-Continue\r\n" in head
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\nConnection: y\r\nY: z\r\n\r\n")
        await pause(0.02)
        peer.send(b"HTTP/1.1 100 Go on\r\n\r\n")
        assert await peer.take(5) == b"hello"
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await peer.gone()

    async def silent(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    front.origin.scripts = (expecting, silent)
    client = await front.ask(
        b"PUT /x HTTP/1.1\r\nHost: x\r\nexpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert await client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    assert await client.head() == b"HTTP/1.1 100 Go on\r\n\r\n"
    client.send(b"hello")
    assert b"Connection" not in await client.head()
    client.send(GET)
    await eventually(lambda: len(front.requests) == 2)


@pytest_twisted.ensureDeferred
async def test_expecting_in_vain(front: Front) -> None:
    """A final answer comes instead, and the connection ends: the body may come or not."""

    async def refuse(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")

    front.origin.scripts = (refuse,)
    client = await front.ask(
        b"PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 401 No\r\n")
    assert b"Connection: close\r\n" in head
    await client.gone()
    assert client.data == b"no"
    assert (await front.origin.peers[-1].gone()) is not None


@pytest_twisted.ensureDeferred
async def test_expecting_from_a_silent_origin(front: Front) -> None:
    """The client is waiting as it should: it is the origin that is late."""

    async def silent(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    front.origin.scripts = (silent,)
    front.site.turnstile.limits = evolve(front.site.turnstile.limits, body_timeout=0.1)
    front.client._response_timeout = 0.5
    client = await front.ask(
        b"PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert (await client.head()).startswith(b"HTTP/1.1 504 ")
    await client.gone()


@pytest.mark.parametrize("word", [b"HTTP/1.1 100 Go on\r\n\r\n", b""])
@pytest_twisted.ensureDeferred
async def test_expecting_and_then_silent(word: bytes, front: Front) -> None:
    """A client that was told to go on, or that has begun by itself, and then sends no more is late itself."""

    async def taking(peer: Peer) -> None:
        await peer.head()
        peer.send(word)
        await peer.gone()

    front.origin.scripts = (taking,)
    front.site.turnstile.limits = evolve(front.site.turnstile.limits, body_timeout=0.3)
    client = await front.ask(
        b"PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    if word:
        assert await client.head() == word
    else:
        client.send(b"h")
    assert (await client.head()).startswith(b"HTTP/1.1 408 ")


@pytest_twisted.ensureDeferred
async def test_interim_answers_for_http_1_0(front: Front) -> None:
    """Are not understood there."""
    front.origin.scripts = (saying(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),)
    client = await front.ask(GET.replace(b"1.1", b"1.0"))
    assert (await client.head()).startswith(b"HTTP/1.0 204 ")


@pytest.mark.parametrize("then", ["close", "reset", "gone"])
@pytest.mark.parametrize("size", [0, 5, 30_000])
@pytest_twisted.ensureDeferred
async def test_refused_while_sending(front: Front, then: str, size: int) -> None:
    """The client gets all of an early answer, though it does not stop sending and the origin hangs up."""

    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.take(20_000)
        peer.pause()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await peer.sent()
        await pause(0.03)
        if then != "gone":
            getattr(peer, then)()

    front.origin.scripts = (refuse,)
    client = await front.ask(PUT)
    client.pause()
    for _ in range(120):
        client.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await eventually(lambda: client.transport._tempDataLen < 2**20)
    await eventually(lambda: client.transport._tempDataLen == 0)
    client.resume()
    reason = await client.gone()
    assert isinstance(reason.value, ConnectionDone)
    head, _, body = bytes(client.data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 Too Large\r\n")
    assert b"Connection: close" in head
    assert len(body) == size


@pytest_twisted.ensureDeferred
async def test_a_slow_client(front: Front) -> None:
    """Slows the origin down."""
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(64):
            await eventually(lambda: peer.transport._tempDataLen == 0)
            peer.send(bytes(2**20))
            sent += 1

    front.origin.scripts = (flood,)
    client = await front.connect()
    client.pause()
    client.send(GET)
    await eventually(lambda: sent > 0)
    assert await settled(lambda: sent) < 40
    client.resume()
    head = await client.head()
    assert b"Content-Length: 67108864\r\n" in head
    await client.until(lambda: len(client.data) == 2**26)


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_within_its_answer(front: Front) -> None:
    """Frees the connection to the origin."""
    front.origin.scripts = (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello"),)
    for leave in ("close", "reset"):
        client = await front.ask(GET)
        await client.until(lambda: b"hello" in client.data)  # noqa: B023 (awaited at once)
        getattr(client, leave)()
        await front.origin.peers[-1].gone()
        assert front.pass_through._client._pool._open == set()


@pytest_twisted.ensureDeferred
async def test_a_client_that_left_before_its_answer(front: Front) -> None:
    """Costs the answer, and no more."""
    front.origin.scripts = (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello"),)
    client = await front.ask(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: len(front.requests) == 1)
    response = await front.client.request(b"GET", b"/", [(b"Host", b"x")])
    client.close()
    await eventually(lambda: front.requests[0].channel is None)
    await front.pass_through.answer(front.requests[0], response)
    await front.origin.peers[0].gone()


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_is_reason_enough(front: Front) -> None:
    """To stop streaming to it, also when nobody cancels."""
    front.origin.scripts = (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello"),)
    client = await front.ask(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: len(front.requests) == 1)
    response = await front.client.request(b"GET", b"/", [(b"Host", b"x")])
    answered = Deferred.fromCoroutine(front.pass_through.answer(front.requests[0], response))
    await client.until(lambda: client.data.endswith(b"hello"))
    client.close()
    with pytest.raises(CancelledError):
        await answered
    await front.origin.peers[0].gone()


# Uploads


class Sink:
    """An origin in a thread of its own, which throws away what it gets as fast as it is told."""

    def __init__(self) -> None:
        self.received = 0
        self.slow = threading.Event()
        self.go_on = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.number = self._listener.getsockname()[1]
        self._buffer = bytearray(2**18)

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection, self._listener:
            tail = b""
            while not tail.endswith(b"0\r\n\r\n"):
                if self.slow.is_set():
                    self.go_on.wait(60)
                count = connection.recv_into(self._buffer)
                if count == 0:
                    return
                self.received += count
                tail = (tail + bytes(self._buffer[max(0, count - 8) : count]))[-8:]
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


class Source:
    """A client in a thread of its own, which sends chunks of zeros as fast as it can."""

    def __init__(self, number: int, mebibytes: int) -> None:
        self.sent = 0
        self._number = number
        self._mebibytes = mebibytes

    def run(self) -> bytes:
        chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
        with socket.create_connection(("127.0.0.1", self._number)) as client:
            client.sendall(PUT)
            for _ in range(self._mebibytes):
                client.sendall(chunk)
                self.sent += 2**20
            client.sendall(b"0\r\n\r\n")
            return client.recv(1000)


def resident() -> int:
    """The bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def upload(front: Front, sink: Sink, mebibytes: int) -> tuple[Source, Deferred[bytes]]:
    front.client._endpoint._port = sink.number
    deferToThread(sink.run)
    source = Source(front.port.getHost().port, mebibytes)
    return source, deferToThread(source.run)


@pytest_twisted.ensureDeferred
async def test_a_large_upload(front: Front) -> None:
    """Needs no memory and no disk to speak of, whatever its size."""
    sink = Sink()
    (await (await upload(front, Sink(), 16))[1]).startswith(b"HTTP/1.1 204 ")  # warms up
    before = resident()
    highest = 0
    _, answer = await upload(front, sink, 200)
    while not answer.called:
        highest = max(highest, resident())
        await pause(0.01)
    assert (await answer).startswith(b"HTTP/1.1 204 ")
    assert sink.received > 200 * 2**20
    assert highest - before < 24 * 2**20
    assert front.requests[-1].content is None


@pytest_twisted.ensureDeferred
async def test_an_upload_to_a_slow_origin(front: Front) -> None:
    """Is slowed down, instead of kept."""
    sink = Sink()
    sink.slow.set()
    before = resident()
    source, answer = await upload(front, sink, 100)
    await eventually(lambda: source.sent > 0)
    assert await settled(lambda: source.sent) < 40 * 2**20
    assert resident() - before < 24 * 2**20
    sink.slow.clear()
    sink.go_on.set()
    assert (await answer).startswith(b"HTTP/1.1 204 ")
    assert sink.received > 100 * 2**20
