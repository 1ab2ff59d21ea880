"""Bodies onto real sockets: with sendfile, by copying over TLS, from whole and from growing files."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.ssl import PrivateCertificate
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.unit.certificates import write_certificate
from tests.unit.scripted import eventually, pause
from txglancecache.delivery import pages, sendfile
from txglancecache.delivery.copying import CopyingProducer
from txglancecache.delivery.delivery import Delivery
from txglancecache.delivery.manner import CORKED, Preference
from txglancecache.delivery.pages import Pages
from txglancecache.delivery.sendfile import SendfileProducer
from txglancecache.delivery.turn import SHARE
from txglancecache.errors import ClientGone, ClientStalled, FillFailed, GlanceCacheError, StoreError

MIB = 1 << 20
BODY = os.urandom(6 * MIB)
LARGE = 96 * MIB


@define(eq=False)
class Bytes:
    """A source on a file, which ends early, grows or fails as the test has it."""

    position: int
    stop: int
    there: int
    error: Exception | None = None
    _waiter: Deferred[None] | None = field(default=None, init=False)

    @property
    def left(self) -> int:
        return self.stop - self.position

    def available(self) -> int:
        return max(0, self.there - self.position)

    def advance(self, count: int) -> None:
        self.position += count

    def wait(self) -> Deferred[None]:
        if self.error is not None:
            return fail(self.error)
        if self.available():
            return succeed(None)
        self._waiter = Deferred()
        return self._waiter

    def grow(self, there: int) -> None:
        self.there = there
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(None)


class Bodies(Resource):
    """Serves the file; remembers what became of each delivery."""

    isLeaf = True

    def __init__(self, path: Path, delivery: Delivery) -> None:
        super().__init__()
        self.path, self.delivery = path, delivery
        self.outcomes: list[Exception | None] = []
        self.sources: list[Bytes] = []
        self.sockets: list[socket.socket] = []
        self.there: int | None = None
        self.size = path.stat().st_size
        self.error: Exception | None = None

    def resize(self, size: int) -> None:
        os.truncate(self.path, size)
        self.size = size

    def render_GET(self, request: Request) -> int:
        request.setHeader(b"content-length", b"%d" % self.size)
        Deferred.fromCoroutine(self._send(request))
        return NOT_DONE_YET

    async def _send(self, request: Request) -> None:
        source = Bytes(0, self.size, self.size if self.there is None else self.there, self.error)
        self.sources.append(source)
        self.sockets.append(request.channel.transport.getHandle())
        fd = os.open(self.path, os.O_RDONLY)
        try:
            await self.delivery.send(request, source, fd)
        except GlanceCacheError as error:
            self.outcomes.append(error)
            if request.channel is not None:
                request.channel.transport.abortConnection()
        else:
            self.outcomes.append(None)
            request.finish()
        finally:
            os.close(fd)


@define(eq=False)
class Server:
    bodies: Bodies
    port: int
    tls: ssl.SSLContext | None

    def connect(self) -> http.client.HTTPConnection:
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    body = tmp_path / "body"
    body.write_bytes(BODY)
    bodies = Bodies(body, Delivery(reactor, threads.deferToThread, stall_timeout=60.0))
    site = Site(bodies)
    context = None
    if request.param == "tls":
        pem = tmp_path / "server.pem"
        write_certificate(pem)
        options = PrivateCertificate.loadPEM(pem.read_bytes()).options()
        listening = reactor.listenSSL(0, site, options, interface="127.0.0.1")
        context = ssl.create_default_context(cafile=str(pem))
    else:
        listening = reactor.listenTCP(0, site, interface="127.0.0.1")
    yield Server(bodies, listening.getHost().port, context)
    pytest_twisted.blockon(listening.stopListening())


def _get(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/")
    response = connection.getresponse()
    digest, left = hashlib.sha256(), int(response.headers["content-length"])
    while piece := response.read(MIB):
        digest.update(piece)
        left -= len(piece)
    if left:
        # A sized read of http.client takes an early end for the end.
        raise http.client.IncompleteRead(b"", left)
    return digest.hexdigest()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest_twisted.ensureDeferred
async def test_one_connection_carries_body_after_body(server: Server) -> None:
    """Bodies follow each other on a kept connection, each whole."""

    def several() -> list[str]:
        connection = server.connect()
        try:
            return [_get(connection) for _ in range(3)]
        finally:
            connection.close()

    assert await threads.deferToThread(several) == [DIGEST] * 3
    assert server.bodies.outcomes == [None] * 3


@pytest_twisted.ensureDeferred
async def test_many_clients_at_once(server: Server) -> None:
    """Clients at the same time get a whole body each, and nothing stays open."""
    await threads.deferToThread(_get, server.connect())
    before = _open_files()

    def one() -> str:
        connection = server.connect()
        try:
            return _get(connection)
        finally:
            connection.close()

    found = [threads.deferToThread(one) for _ in range(8)]
    assert [await deferred for deferred in found] == [DIGEST] * 8
    assert server.bodies.delivery.turn.active == 0
    await eventually(lambda: _open_files() <= before)


@pytest_twisted.ensureDeferred
async def test_a_growing_file_is_followed(server: Server) -> None:
    """What is not there yet is waited for, for longer than a stalled client would be."""
    server.bodies.there, server.bodies.delivery.stall_timeout = 100, 3.0
    digest = threads.deferToThread(_get, server.connect())
    await eventually(lambda: server.bodies.sources and server.bodies.sources[0].position == 100)
    await pause(4)
    for there in (MIB, 3 * MIB + 5, len(BODY)):
        server.bodies.sources[0].grow(there)
        await pause(0.02)
    assert await digest == DIGEST


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("server", ["plain"], indirect=True)
async def test_nothing_is_held_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bytes go out in full segments only, the last ones do not wait for more, nor does what follows."""
    corks: list[int] = []

    def watched(self: Preference, seconds: float, sent: int) -> None:
        corks.append(_cork(server))

    monkeypatch.setattr(Preference, "spent", watched)
    monkeypatch.setattr(server.bodies.delivery.turn.preference, "manner", CORKED)
    server.bodies.there = SHARE
    connection = server.connect()
    digest = threads.deferToThread(_get, connection)
    await eventually(lambda: server.bodies.sources and server.bodies.sources[0].position == SHARE)
    await eventually(lambda: not _cork(server))
    server.bodies.sources[0].grow(len(BODY))
    assert await digest == DIGEST
    assert set(corks) == {1}
    server.bodies.resize(SHARE)
    again = await threads.deferToThread(_get, connection)
    assert again == hashlib.sha256(BODY[:SHARE]).hexdigest()
    assert not _cork(server)
    connection.close()


def _cork(server: Server) -> int:
    return server.bodies.sockets[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)


@pytest_twisted.ensureDeferred
async def test_a_body_that_will_not_come_is_an_aborted_connection(server: Server) -> None:
    """When the source fails the client sees a broken response, never a short one that looks whole."""
    server.bodies.there, server.bodies.error = MIB, FillFailed("gone")

    def broken() -> str:
        with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
            _get(server.connect())
        return "broken"

    assert await threads.deferToThread(broken) == "broken"
    assert [type(outcome) for outcome in server.bodies.outcomes] == [FillFailed]


@pytest_twisted.ensureDeferred
async def test_a_truncated_file_is_noticed(server: Server) -> None:
    """A body file that is shorter than it should be aborts, and does not spin."""
    server.bodies.size += 1

    def broken() -> str:
        with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
            _get(server.connect())
        return "broken"

    assert await threads.deferToThread(broken) == "broken"
    assert [type(outcome) for outcome in server.bodies.outcomes] == [StoreError]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("server", ["plain"], indirect=True)
@pytest.mark.parametrize(
    ("code", "whose"),
    [(errno.ETIMEDOUT, ClientGone), (errno.EHOSTUNREACH, ClientGone), (errno.EIO, StoreError)],
)
async def test_whose_fault_it_is(
    server: Server, monkeypatch: pytest.MonkeyPatch, code: int, whose: type[Exception]
) -> None:
    """A network that fails says nothing about the file."""

    def fails(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "sendfile", fails)

    def broken() -> None:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            _get(server.connect())

    await threads.deferToThread(broken)
    assert [type(outcome) for outcome in server.bodies.outcomes] == [whose]


def _ask_and_hold(server: Server) -> socket.socket:
    """A client that has asked, and read nothing but the first bytes."""
    connection = server.connect()
    connection.connect()
    held: socket.socket = connection.sock
    held.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    held.recv(100)
    return held


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_client_that_leaves_frees_everything(server: Server, how: str) -> None:
    """A client that closes or resets midway ends its delivery at once, with nothing left open."""
    server.bodies.resize(LARGE)
    await threads.deferToThread(lambda: None)
    before = _open_files()
    held = [await threads.deferToThread(_ask_and_hold, server) for _ in range(5)]
    for client in held:
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    await eventually(lambda: len(server.bodies.outcomes) == 5)
    assert {type(outcome) for outcome in server.bodies.outcomes} <= {ClientGone}
    await eventually(lambda: _open_files() <= before)


@pytest_twisted.ensureDeferred
async def test_a_client_that_takes_nothing_is_given_up(server: Server) -> None:
    """A client that stops reading loses its connection after the stall time-out."""
    server.bodies.resize(LARGE)
    server.bodies.delivery.stall_timeout = 1.0
    held = await threads.deferToThread(_ask_and_hold, server)
    await eventually(lambda: server.bodies.outcomes)
    held.close()
    assert [type(outcome) for outcome in server.bodies.outcomes] == [ClientStalled]


@pytest_twisted.ensureDeferred
async def test_a_pipelined_request_behind_a_body(server: Server) -> None:
    """Requests that were sent before the body came are answered after it, in order."""

    def pipelined() -> bytes:
        connection = server.connect()
        connection.connect()
        client: socket.socket = connection.sock
        filler = b"GET / HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"a" * 8000 + b"\r\n\r\n"
        client.sendall(filler * 3 + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        parts = []
        while piece := client.recv(MIB):
            parts.append(piece)
        client.close()
        return b"".join(parts)

    answer = await threads.deferToThread(pipelined)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.count(BODY) == 4


@pytest_twisted.ensureDeferred
async def test_the_way_fits_the_transport(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain socket gets sendfile, TLS gets copying, and a small body goes with its head."""
    used = _watch_producers(monkeypatch)
    assert await threads.deferToThread(_get, server.connect()) == DIGEST
    assert used == [CopyingProducer if server.tls else SendfileProducer]
    server.bodies.resize(1000)
    assert await threads.deferToThread(_get, server.connect()) == hashlib.sha256(BODY[:1000]).hexdigest()
    server.bodies.there = 999
    digest = threads.deferToThread(_get, server.connect())
    await eventually(lambda: len(used) == 2)
    server.bodies.sources[-1].grow(1000)
    assert await digest == hashlib.sha256(BODY[:1000]).hexdigest()


def _watch_producers(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The kinds of producers that will have been used."""
    used: list[type] = []
    for kind in (SendfileProducer, CopyingProducer):
        real = kind.run

        async def run(self: object, real: object = real) -> None:
            used.append(type(self))
            await real(self)  # type: ignore[operator]

        monkeypatch.setattr(kind, "run", run)
    return used


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("server", ["plain"], indirect=True)
async def test_pages_that_are_not_in_memory(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read in a thread before they are sent, each once, and the next while others are sent."""
    fetched: list[tuple[int, int, int]] = []
    fetch = Pages.fetch

    async def watched(self: Pages, start: int, stop: int) -> None:
        fetched.append((start, stop, server.bodies.sources[0].position))
        await fetch(self, start, stop)

    monkeypatch.setattr(Pages, "ready", lambda *_: False)
    monkeypatch.setattr(Pages, "fetch", watched)
    monkeypatch.setattr(sendfile, "WINDOW", MIB)
    assert await threads.deferToThread(_get, server.connect()) == DIGEST
    windows = [(start, start + MIB) for start in range(0, len(BODY), MIB)]
    assert [(start, stop) for start, stop, _ in fetched] == windows
    assert any(position < start for start, _, position in fetched)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("server", ["plain"], indirect=True)
async def test_pages_that_cannot_be_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the file's fault, whether they are wanted now or were to be read ahead of what is sent."""

    def broken(fd: int, start: int, stop: int) -> None:
        if start < bad < stop:
            raise StoreError("cannot read a body: bad sectors")

    monkeypatch.setattr(Pages, "ready", lambda *_: False)
    monkeypatch.setattr(pages, "_read_in", broken)
    monkeypatch.setattr(sendfile, "WINDOW", MIB)
    for count, bad in enumerate((MIB // 2, 3 * MIB + 5), 1):
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            await threads.deferToThread(_get, server.connect())
        await eventually(lambda: len(server.bodies.outcomes) == count)  # noqa: B023
        assert isinstance(server.bodies.outcomes[-1], StoreError)
        assert server.bodies.sources[-1].position <= bad
