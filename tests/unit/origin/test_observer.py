"""What the client of the origin tells its observer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor

from tests.unit.scripted import Peer, ScriptedServer, listen, pause
from txglancecache.errors import OriginProtocolError
from txglancecache.origin.client import OriginClient, OriginURL

HOST = [(b"Host", b"glance")]


@define(eq=False)
class Noting:
    """An observer that remembers."""

    answers: list[tuple[bytes, int, float]] = field(factory=list)
    failures: list[Exception] = field(factory=list)

    def answered(self, method: bytes, status: int, seconds: float) -> None:
        self.answers.append((method, status, seconds))

    def failed(self, error: Exception) -> None:
        self.failures.append(error)


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[ScriptedServer]:
    server = listen(slow, broken)
    yield server
    await server.stop()


async def slow(peer: Peer) -> None:
    await peer.request()
    await pause(0.05)
    peer.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    peer.close()


async def broken(peer: Peer) -> None:
    await peer.request()
    peer.close()


@pytest_twisted.ensureDeferred
async def test_observed(server: ScriptedServer) -> None:
    """An answer is told with its status and how long its head took; no answer with what went wrong."""
    noting = Noting()
    client = OriginClient(
        reactor,
        OriginURL("http", "127.0.0.1", server.number),
        connect_timeout=20,
        response_timeout=20,
        max_connections=2,
        observer=noting,
    )
    await (await client.request(b"GET", b"/", HOST)).collect(10)
    ((method, status, seconds),) = noting.answers
    assert (method, status) == (b"GET", 404)
    assert 0.05 <= seconds < 20
    with pytest.raises(OriginProtocolError) as caught:
        await client.request(b"GET", b"/", HOST)
    assert noting.failures == [caught.value]
    assert len(noting.answers) == 1
    await client.close()
