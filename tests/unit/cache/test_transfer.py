"""Transfers over real sockets: spliced where the answer allows it, else through the reactor."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred

from tests.unit.scripted import Peer, eventually, listen, pause
from txglancecache.cache import mover
from txglancecache.cache.span import Span, TransferStopped
from txglancecache.cache.transfer import Transfer
from txglancecache.errors import OriginError, OriginProtocolError, OriginTimeout, StoreError
from txglancecache.extents import Extents
from txglancecache.origin.client import OriginClient, OriginURL

SIZE = 3 * (1 << 20) + 17
BODY = os.urandom(SIZE)


@define(eq=False)
class Move:
    """One transfer into a file of its own."""

    path: Path
    silence: float = 5.0
    span: Span = field(factory=lambda: Span(0, SIZE))
    present: Extents = field(factory=Extents)
    written: Extents = field(factory=Extents)
    fd: int = field(init=False)
    transfer: Transfer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        os.truncate(self.fd, SIZE)
        self.transfer = Transfer(self.span, self._wrote, reactor, threads.deferToThread, self.silence)

    def _wrote(self, start: int, stop: int) -> None:
        assert not self.written.intersection(Extents.of((start, stop)))
        self.written = self.written.add(start, stop)

    async def run(self, script: Callable[[Peer], Awaitable[None]], begin: int = 0) -> None:
        server = listen(script)
        origin = OriginURL("http", "127.0.0.1", server.number)
        client = OriginClient(reactor, origin, connect_timeout=5, response_timeout=5, max_connections=4)
        try:
            answer = client.request(b"GET", b"/", [(b"Host", b"x")])
            await self.transfer.run(answer, begin, self.fd, self.present)
        finally:
            await client.close()
            await server.stop()

    def right(self) -> bool:
        """Whether what was reported as written has the right bytes."""
        return all(os.pread(self.fd, stop - start, start) == BODY[start:stop] for start, stop in self.written)


@pytest_twisted.async_yield_fixture
async def move(tmp_path: Path) -> AsyncIterator[Move]:
    move = Move(tmp_path / "body")
    # The first port that listens keeps a descriptor in reserve for the process.
    await listen(_chunked).stop()
    before = len(os.listdir("/proc/self/fd"))
    yield move
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
    os.close(move.fd)


def _sized(body: bytes, *pieces: bytes) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for piece in pieces or (body,):
            peer.send(piece)
            await pause(0.02)
        if sum(map(len, pieces or (body,))) < len(body):
            peer.close()

    return script


async def _chunked(peer: Peer) -> None:
    await peer.head()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, SIZE, 100_000):
        piece = BODY[start : start + 100_000]
        peer.send(b"%x\r\n" % len(piece), piece, b"\r\n")
        await pause(0)
    peer.send(b"0\r\n\r\n")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("script", [_sized(BODY), _chunked], ids=["sized", "chunked"])
async def test_a_body_arrives_whole(move: Move, script: Callable[[Peer], Awaitable[None]]) -> None:
    """Every byte is written once, in the right place, and reported."""
    await move.run(script)
    assert move.written == Extents.of((0, SIZE))
    assert move.right()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["splice", "copy"])
async def test_what_is_on_disk_is_read_past(move: Move, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are present are neither written nor reported, wherever they are in the stream."""
    if way == "copy":
        monkeypatch.setattr(mover, "_Splice", mover._Copy)
    move.present = Extents.of((0, 10), (1_000_000, 1_500_000), (SIZE - 5, SIZE))
    await move.run(_sized(BODY))
    assert move.written == Extents.of((10, 1_000_000), (1_500_000, SIZE - 5))
    assert move.right()
    assert os.pread(move.fd, 10, 0) == bytes(10)
    assert os.pread(move.fd, 500_000, 1_000_000) == bytes(500_000)


@pytest_twisted.ensureDeferred
async def test_a_range_goes_where_it_belongs(tmp_path: Path) -> None:
    """The body of a partial answer is written at its offset."""
    start, stop = 1_234_567, 2_345_678
    move = Move(tmp_path / "body", span=Span(start, stop))
    await move.run(_sized(BODY[start:stop]), begin=start)
    assert move.written == Extents.of((start, stop))
    assert move.right()
    os.close(move.fd)


@pytest_twisted.ensureDeferred
async def test_a_shortened_transfer_stops_there(move: Move) -> None:
    """A transfer that is told to end earlier leaves the rest alone, and ends well."""
    assert move.span.shorten(1_000_000) == 1_000_000
    await move.run(_sized(BODY))
    assert move.written == Extents.of((0, 1_000_000))


@pytest_twisted.ensureDeferred
async def test_a_transfer_that_was_shortened_may_go_on(move: Move) -> None:
    """It goes on to where the origin's answer ends, and no further."""
    assert move.span.ask() == SIZE
    move.span.shorten(1_000_000)
    move.span.lengthen(SIZE + 1)
    await move.run(_sized(BODY))
    assert move.written == Extents.of((0, SIZE))
    assert move.right()


def test_what_has_ended_does_not_go_on() -> None:
    """A mover that was told that it is at the end is not coming back; nor is one longer than its answer."""
    ended = Span(0, 100)
    ended.ask()
    ended.shorten(50)
    assert (ended.take(0, 1000), ended.take(50, 1000)) == (50, 0)
    ended.lengthen(100)
    assert ended.stop == 50
    not_asked = Span(0, 100)
    not_asked.shorten(50)
    not_asked.lengthen(100)
    assert not_asked.stop == 50


@pytest_twisted.ensureDeferred
async def test_an_origin_that_closes_early_is_an_error(move: Move) -> None:
    """A short body raises, and what came is kept."""
    with pytest.raises(OriginProtocolError):
        await move.run(_sized(BODY, BODY[:200_000]))
    assert move.written == Extents.of((0, 200_000))
    assert move.right()


@pytest_twisted.ensureDeferred
async def test_a_reset_is_an_error(move: Move) -> None:
    """A connection that is reset raises, whatever had come."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE, BODY[:50_000])
        await pause(0.2)
        peer.reset()

    with pytest.raises(OriginError):
        await move.run(script)
    assert move.right()


@pytest_twisted.ensureDeferred
async def test_a_network_that_is_gone_is_an_error(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a connection fails, it is the origin's error, and what came is kept."""

    def unreachable(*_: object) -> int:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(mover._Splice, "move", unreachable)
    with pytest.raises(OriginError):
        await move.run(_sized(BODY))
    assert move.right()


@pytest_twisted.ensureDeferred
async def test_a_silent_origin_is_given_up(tmp_path: Path) -> None:
    """An origin that stops sending is gone after the configured silence."""
    move = Move(tmp_path / "body", silence=0.3)

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE, BODY[:50_000])
        await peer.gone()

    with pytest.raises(OriginTimeout):
        await move.run(script)
    assert move.written == Extents.of((0, 50_000))
    os.close(move.fd)


@pytest_twisted.ensureDeferred
async def test_giving_up_wakes_the_thread(move: Move) -> None:
    """A transfer that waits for its origin ends at once when it is given up."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE, BODY[:50_000])
        await pause(0.1)
        move.transfer.give_up()
        await peer.gone()

    running = Deferred.fromCoroutine(move.run(script))
    running.addTimeout(3, reactor)
    with pytest.raises(TransferStopped):
        await running


@pytest_twisted.ensureDeferred
async def test_giving_up_does_not_wait_for_the_head(move: Move) -> None:
    """Nor does a transfer whose answer has not begun yet keep anybody waiting."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await pause(0.05)
        move.transfer.give_up()
        await peer.gone()

    running = Deferred.fromCoroutine(move.run(script))
    running.addTimeout(3, reactor)
    with pytest.raises(TransferStopped):
        await running


@pytest_twisted.ensureDeferred
async def test_what_was_given_up_before_it_began_asks_nobody(move: Move) -> None:
    """A transfer that nobody wants by the time that its file is open does not go to the origin."""
    asked = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.head())

    move.transfer.give_up()
    with pytest.raises(TransferStopped):
        await move.run(script)
    assert asked == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("script", [_sized(BODY), _chunked], ids=["sized", "chunked"])
async def test_a_disk_that_refuses_is_the_stores_error(
    tmp_path: Path, script: Callable[[Peer], Awaitable[None]]
) -> None:
    """A write that fails is told apart from an origin that fails."""
    move = Move(tmp_path / "body")
    writable, move.fd = move.fd, os.open(move.path, os.O_RDONLY)
    with pytest.raises(StoreError):
        await move.run(script)
    os.close(writable)
    os.close(move.fd)
