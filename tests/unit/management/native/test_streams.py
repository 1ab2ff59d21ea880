"""Events as they happen, over HTTP connections whose other ends are the test's."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort, IProtocol, IPushProducer
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource

from tests.unit.management.native.world import Site
from tests.unit.scripted import Peer, eventually, pause, settled
from txglancecache.cache.events import EventLog
from txglancecache.clients.limits import Limits
from txglancecache.clients.refusals import Refusals
from txglancecache.clients.turnstile import Turnstile
from txglancecache.management.access.authenticate import let_ask_again
from txglancecache.management.access.guard import Guard
from txglancecache.management.native.streams import HEARTBEAT, Stream
from txglancecache.management.site import ManagementSite, management_resource, management_site

#: What every stream begins with here, while nothing has happened.
BEGIN = "retry: 3000\nid: 5e0c94d1-0\n\n"


def serials_of(body: str) -> list[int]:
    """The serials of the events in a stream; what only says where it goes on from is none."""
    return [json.loads(line[6:])["serial"] for line in body.splitlines() if line.startswith("data: ")]


@define(eq=False)
class Listener:
    """A client that asks for the stream."""

    site: Site
    fields: str = ""
    gate: Callable[[IResource], IResource] = lambda inner: inner
    transport: StringTransport = field(factory=StringTransport)
    channel: IProtocol = field(init=False)

    def __attrs_post_init__(self) -> None:
        resource = management_resource(self.site.native.resource(), Guard(), admit=self.gate)
        factory = management_site(resource, reactor=self.site.clock)
        self.channel = factory.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        head = (
            f"GET /cache/events HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n{self.fields}\r\n"
        )
        self.channel.dataReceived(head.encode())

    @property
    def head(self) -> str:
        return self.transport.value().decode().partition("\r\n\r\n")[0]

    @property
    def body(self) -> str:
        return self.transport.value().decode().partition("\r\n\r\n")[2]

    def serials(self) -> list[int]:
        return serials_of(self.body)

    @property
    def producer(self) -> IPushProducer:
        assert self.transport.producer is not None
        return self.transport.producer

    def leave(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def site() -> Site:
    return Site()


def test_stream(site: Site) -> None:
    """A stream begins at once and goes on with each event, under its id and its kind."""
    site.cache.events.note("pinned", "before")
    listener = Listener(site)
    assert "200 OK" in listener.head
    assert "Content-Type: text/event-stream" in listener.head
    assert "Cache-Control: no-store" in listener.head
    begin = "retry: 3000\nid: 5e0c94d1-1\n\n"
    assert listener.body == begin
    site.cache.events.note("evicted", "6f1c", "1 GiB\nand more")
    lines = listener.body.removeprefix(begin).split("\n")
    assert lines[:2] == ["id: 5e0c94d1-2", "event: evicted"]
    data = json.loads(lines[2].removeprefix("data: "))
    assert (data["id"], data["image_id"], data["detail"]) == ("5e0c94d1-2", "6f1c", "1 GiB\nand more")
    assert lines[3:] == ["", ""]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("5e0c94d1-1", [2, 3, 4]),
        ("5e0c94d1-3", [4]),
        ("5e0c94d1-0", [1, 2, 3, 4]),
        ("", [4]),
        *((unknown, [1, 2, 3, 4]) for unknown in ("a1b2c3d4-2", "2", "-2", "none", "\xb2-\xb2")),
        *((f"5e0c94d1-{unknown}", [1, 2, 3, 4]) for unknown in ("99", "", "-2", "x", "1" * 5000)),
    ],
)
def test_return(site: Site, said: str, expected: list[int]) -> None:
    """Who comes back gets what it missed; all there is, if what it saw was not of this process."""
    for _ in range(3):
        site.cache.events.note("pinned", "a")
    listener = Listener(site, f"Last-Event-ID: {said}\r\n")
    site.cache.events.note("pinned", "a")
    assert listener.serials() == expected


@pytest.mark.parametrize("seen", [0, 1, 100])
def test_missed(site: Site, seen: int) -> None:
    """Who was away for longer than events are kept is told how many are gone, and can go on from there."""
    for _ in range(1500):
        site.cache.events.note("pinned", "a")
    listener = Listener(site, f"Last-Event-ID: 5e0c94d1-{seen}\r\n")
    assert listener.serials() == list(range(500, 1501))
    missed = next(json.loads(line[6:]) for line in listener.body.split("\n") if line.startswith("data: "))
    assert (missed["kind"], missed["detail"]) == ("missed", f"{500 - seen} events")
    assert Listener(site, f"Last-Event-ID: {missed['id']}\r\n").serials() == list(range(501, 1501))


def test_restart(site: Site) -> None:
    """A listener, also one that has heard nothing yet, misses nothing of the next process, and gets nothing
    twice."""
    quiet, busy = Listener(site), Listener(site)
    for _ in range(3):
        site.cache.events.note("pinned", "a")
    ids = [quiet.body.split("id: ")[1].split("\n")[0], busy.body.split("id: ")[-1].split("\n")[0]]
    assert ids == ["5e0c94d1-0", "5e0c94d1-3"]
    after = Site()
    after.cache.events = EventLog(after.clock.seconds)
    after.streams._events = after.cache.events
    for _ in range(5):
        after.cache.events.note("pinned", "b")
    listeners = [Listener(after, f"Last-Event-ID: {last}\r\n") for last in ids]
    after.cache.events.note("pinned", "b")
    assert [listener.serials() for listener in listeners] == [[1, 2, 3, 4, 5, 6]] * 2


def test_heartbeat(site: Site) -> None:
    """A stream without events shows that it is alive."""
    listener = Listener(site)
    site.clock.advance(HEARTBEAT)
    site.clock.advance(HEARTBEAT)
    assert listener.body == BEGIN + ": still here\n\n" * 2


class Doubtful(Resource):
    """A gate that lets everybody in, and may have second thoughts."""

    isLeaf = True

    def __init__(self, inner: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.inner = inner
        self.verdicts: list[bool | Exception] = []

    def render(self, request: IRequest) -> bytes | int:
        let_ask_again(request, self.verdict)
        body: bytes | int = self.inner.render(request)
        return body

    async def verdict(self) -> bool:
        found = self.verdicts.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.mark.parametrize("end", [False, ZeroDivisionError()], ids=["refused", "not known"])
def test_permission(site: Site, end: bool | Exception) -> None:
    """A stream ends when its client would not be let in any more, or when that cannot be found out."""
    gates: list[Doubtful] = []

    def gate(inner: IResource) -> IResource:
        gates.append(Doubtful(inner))
        return gates[-1]

    listener = Listener(site, gate=gate)
    gates[0].verdicts = [True, end]
    site.clock.advance(HEARTBEAT)
    assert len(site.streams) == 1
    with capturedLogs():
        site.clock.advance(HEARTBEAT)
    assert len(site.streams) == 0
    assert listener.transport.disconnecting


def test_leaving(site: Site) -> None:
    """Who leaves is forgotten; when nobody listens, nothing goes on."""
    one, other = Listener(site), Listener(site)
    assert len(site.streams) == 2
    one.leave()
    assert len(site.streams) == 1
    site.cache.events.note("pinned", "a")
    assert (one.serials(), other.serials()) == ([], [1])
    other.leave()
    assert len(site.streams) == 0
    assert not [call for call in site.clock.getDelayedCalls() if call.func == site.streams._beat]
    Listener(site)
    assert len(site.streams) == 1


def test_too_many(site: Site) -> None:
    """One more than there may be is told to come back."""
    for _ in range(2):
        Listener(site)
    late = Listener(site)
    assert "503 Service Unavailable" in late.head
    assert "Retry-After: 5" in late.head


def test_slow(site: Site) -> None:
    """What a connection does not take waits, and goes out in order when it does."""
    listener = Listener(site)
    listener.producer.pauseProducing()
    for _ in range(3):
        site.cache.events.note("pinned", "a")
    assert listener.serials() == []
    listener.producer.resumeProducing()
    site.cache.events.note("pinned", "a")
    assert listener.serials() == [1, 2, 3, 4]


def test_too_slow(site: Site) -> None:
    """A client for whom too much waits is cut off; the others go on."""
    slow, quick = Listener(site), Listener(site)
    slow.producer.pauseProducing()
    for _ in range(63):
        site.cache.events.note("pinned", "a", "b" * (1 << 16))
    assert len(site.streams) == 2
    for _ in range(2):
        site.cache.events.note("pinned", "a", "b" * (1 << 16))
    assert slow.transport.disconnected or slow.transport.disconnecting
    assert slow.serials() == []
    assert len(quick.serials()) == 65
    assert len(site.streams) == 1


def test_stuck(site: Site) -> None:
    """So is one that takes nothing from one heartbeat to the next."""
    listener = Listener(site)
    listener.producer.pauseProducing()
    site.clock.advance(HEARTBEAT)
    assert len(site.streams) == 1
    site.clock.advance(HEARTBEAT)
    assert len(site.streams) == 0
    assert listener.transport.disconnected or listener.transport.disconnecting


def test_close(site: Site) -> None:
    """When the process stops, every stream ends, and no other begins."""
    listener = Listener(site)
    site.streams.close()
    assert len(site.streams) == 0
    assert listener.transport.disconnecting
    assert "503 Service Unavailable" in Listener(site).head


# over real sockets


@define(eq=False)
class Open:
    """The site, where it listens, and its clients."""

    site: Site
    factory: ManagementSite = field(init=False)
    port: IListeningPort = field(init=False)
    peers: list[Peer] = field(factory=list, init=False)
    reasons: list[str] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        turnstile = Turnstile(Limits(), Refusals("management", self.site.clock, self), self.site.clock)
        resource = management_resource(self.site.native.resource(), Guard())
        self.factory = management_site(resource, reactor=reactor, turnstile=turnstile)
        self.port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")

    def refused(self, site: str, reason: str) -> None:
        self.reasons.append(reason)

    async def listen(self, fields: str = "") -> Peer:
        """A client whose stream has begun."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        peer: Peer = await connectProtocol(endpoint, Peer())
        self.peers.append(peer)
        head = "GET /cache/events HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        peer.send(f"{head}{fields}\r\n".encode())
        await peer.until(lambda: b"retry: " in peer.data)
        return peer

    async def close(self) -> None:
        await self.port.stopListening()
        for peer in self.peers:
            if peer.reason is None:
                peer.reset()
                await peer.gone()
        await eventually(lambda: self.factory.numPorts == 0 and len(self.site.streams) == 0)


@pytest_twisted.async_yield_fixture
async def open_site(site: Site) -> AsyncIterator[Open]:
    opened = Open(site)
    yield opened
    await opened.close()


def serials_at(peer: Peer) -> list[int]:
    # What comes last may be there in part.
    return serials_of(peer.data.rpartition(b"\n\n")[0].decode())


async def until_full(site: Site) -> Stream:
    """Note events until the kernel takes no more of the only stream."""
    (stream,) = site.streams._open
    while not (stream._paused and await settled(lambda: stream._paused)):
        site.cache.events.note("pinned", "a", "b" * 10_000)
        await pause()
    return stream


@pytest_twisted.ensureDeferred
async def test_burst(open_site: Open) -> None:
    """Thousands of events in one turn reach whoever listens, each once and in order."""
    one, other = await open_site.listen(), await open_site.listen()
    for _ in range(5000):
        open_site.site.cache.events.note("job-queued", "6f1c0000-0000-4000-8000-000000000000", "prefetch")
    for peer in (one, other):
        await eventually(lambda peer=peer: peer.reason or len(serials_at(peer)) >= 5000, 20)  # type: ignore[misc]
        assert serials_at(peer) == list(range(1, 5001))
    assert (open_site.reasons, len(open_site.site.streams)) == ([], 2)


@pytest_twisted.ensureDeferred
async def test_far_behind(open_site: Open) -> None:
    """Who comes back almost as far behind as the node remembers gets all of it, and what comes next."""
    events = open_site.site.cache.events
    for _ in range(1000):
        events.note("job-queued", "6f1c0000-0000-4000-8000-000000000000", "prefetch")
    peer = await open_site.listen("Last-Event-ID: 5e0c94d1-10\r\n")
    for _ in range(1000):
        events.note("job-queued", "6f1c0000-0000-4000-8000-000000000000", "prefetch")
    await eventually(lambda: peer.reason is not None or len(serials_at(peer)) >= 1990, 20)
    assert serials_at(peer) == list(range(11, 2001))
    assert open_site.reasons == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["too long", "too much"])
async def test_reading_nothing(open_site: Open, how: str) -> None:
    """Who listens and reads nothing is cut off and counted, after a while or when too much waits for it."""
    peer, site = await open_site.listen(), open_site.site
    peer.pause()
    await until_full(site)
    if how == "too long":
        site.clock.advance(HEARTBEAT)
        assert len(site.streams) == 1
        site.clock.advance(HEARTBEAT)
    else:
        for _ in range(400):
            site.cache.events.note("pinned", "a", "b" * 10_000)
        assert len(site.streams) == 1
        for _ in range(100):
            site.cache.events.note("pinned", "a", "b" * 10_000)
    assert (len(site.streams), open_site.reasons) == (0, ["stalled"])
    peer.resume()
    await peer.gone()


@pytest_twisted.ensureDeferred
async def test_reading_slowly(open_site: Open) -> None:
    """Who takes something between two heartbeats keeps its stream, however much waits."""
    peer, site = await open_site.listen(), open_site.site
    (stream,) = site.streams._open
    peer.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    stream.request.channel.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    peer.pause()
    await until_full(site)
    for _ in range(350):
        site.cache.events.note("pinned", "a", "b" * 10_000)
    noted = int(site.cache.events.last_id().partition("-")[2])
    beats = 0
    while peer.received < noted * 10_000:
        site.clock.advance(HEARTBEAT)
        beats += 1
        goal = min(peer.received + (1 << 19), noted * 10_000)
        peer.resume()
        await peer.until(lambda goal=goal: peer.received >= goal)  # type: ignore[misc]
        peer.pause()
    peer.resume()
    await eventually(lambda: len(serials_at(peer)) == noted)
    assert serials_at(peer) == list(range(1, noted + 1))
    assert beats > 5
    assert (len(site.streams), open_site.reasons) == (1, [])
