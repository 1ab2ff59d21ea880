"""Events as they happen, over HTTP connections whose other ends are the test's."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from attrs import define, field
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource

from tests.unit.management.native.world import Site
from txglancecache.management.access.authenticate import let_ask_again
from txglancecache.management.access.guard import Guard
from txglancecache.management.native.streams import HEARTBEAT
from txglancecache.management.site import management_resource, management_site


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
        return [int(line[4:]) for line in self.body.splitlines() if line.startswith("id: ")]

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
    """A stream begins at once and goes on with each event, under its serial and its kind."""
    site.cache.events.note("pinned", "before")
    listener = Listener(site)
    assert "200 OK" in listener.head
    assert "Content-Type: text/event-stream" in listener.head
    assert "Cache-Control: no-store" in listener.head
    assert listener.body == "retry: 3000\n\n"
    site.cache.events.note("evicted", "6f1c", "1 GiB\nand more")
    lines = listener.body.removeprefix("retry: 3000\n\n").split("\n")
    assert lines[:2] == ["id: 2", "event: evicted"]
    data = json.loads(lines[2].removeprefix("data: "))
    assert (data["image_id"], data["detail"]) == ("6f1c", "1 GiB\nand more")
    assert lines[3:] == ["", ""]


@pytest.mark.parametrize(
    ("said", "expected"),
    [("1", [2, 3, 4]), ("3", [4]), ("0", [1, 2, 3, 4]), ("99", [1, 2, 3, 4]), ("x", [4]), ("", [4])],
)
def test_return(site: Site, said: str, expected: list[int]) -> None:
    """Who comes back gets what it missed; if it was another process that it knew, all there is."""
    for _ in range(3):
        site.cache.events.note("pinned", "a")
    listener = Listener(site, f"Last-Event-ID: {said}\r\n")
    site.cache.events.note("pinned", "a")
    assert listener.serials() == expected


def test_heartbeat(site: Site) -> None:
    """A stream without events shows that it is alive."""
    listener = Listener(site)
    site.clock.advance(HEARTBEAT)
    site.clock.advance(HEARTBEAT)
    assert listener.body == "retry: 3000\n\n" + ": still here\n\n" * 2


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
    for _ in range(300):
        site.cache.events.note("pinned", "a")
    assert slow.transport.disconnected or slow.transport.disconnecting
    assert slow.serials() == []
    assert len(quick.serials()) == 300
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
