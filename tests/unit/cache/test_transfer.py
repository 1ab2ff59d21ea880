"""Transfers over real sockets: spliced where the answer allows it, else through the reactor."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.threadpool import ThreadPool

from tests.unit.filetimes import let_pass
from tests.unit.scripted import Peer, eventually, listen, pause
from txglancecache.cache import mover
from txglancecache.cache.span import Span, TransferStopped
from txglancecache.cache.transfer import Transfer
from txglancecache.errors import OriginError, OriginProtocolError, OriginTimeout, StoreError
from txglancecache.extents import Extents
from txglancecache.origin.client import Detached, OriginClient, OriginURL
from txglancecache.origin.patience import Patience
from txglancecache.store.stamp import Stamp

SIZE = 3 * (1 << 20) + 17
BODY = os.urandom(SIZE)


@define(eq=False)
class Move:
    """One transfer into a file of its own."""

    path: Path
    silence: float = 60.0
    min_rate: float = 0.0
    span: Span = field(factory=lambda: Span(0, SIZE))
    present: Extents = field(factory=Extents)
    written: Extents = field(factory=Extents)
    came: int = 0
    busy: int = 0  # threads at work for it
    fd: int = field(init=False)
    transfer: Transfer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        os.truncate(self.fd, SIZE)
        self.transfer = Transfer(
            self.span, self._wrote, self._came, reactor, self._in_thread, self.silence, self.min_rate
        )

    def _wrote(self, start: int, stop: int) -> None:
        assert not self.written.intersection(Extents.of((start, stop)))
        self.written = self.written.add(start, stop)

    def _in_thread(self, function: Any, *args: Any) -> Deferred[Any]:
        self.busy += 1
        done = threads.deferToThread(function, *args)

        def idle(result: object) -> object:
            self.busy -= 1
            return result

        return done.addBoth(idle)

    def _came(self, count: int) -> None:
        self.came += count

    async def run(self, script: Callable[[Peer], Awaitable[None]], begin: int = 0) -> None:
        server = listen(script)
        origin = OriginURL("http", "127.0.0.1", server.number)
        client = OriginClient(
            reactor,
            origin,
            connect_timeout=20,
            response_timeout=self.silence,
            min_rate=self.min_rate,
            max_connections=4,
        )
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


@pytest.fixture(params=["splice", "buffer"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How bytes get from a socket into a file."""
    if request.param == "buffer":
        monkeypatch.delattr(os, "splice")
    return str(request.param)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("script", [_sized(BODY), _chunked], ids=["sized", "chunked"])
async def test_a_body_arrives_whole(way: str, move: Move, script: Callable[[Peer], Awaitable[None]]) -> None:
    """Every byte is written once, in the right place, and reported."""
    await move.run(script)
    assert move.written == Extents.of((0, SIZE))
    assert move.right()


@pytest_twisted.ensureDeferred
async def test_a_socket_that_cannot_splice_is_asked_once(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all the turns that its body takes."""
    asked = []

    def refuse(*_: object, **__: object) -> int:
        asked.append(1)
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mover, "_TURN", 0.0)
    monkeypatch.setattr(os, "splice", refuse)
    await move.run(_sized(BODY))
    assert move.right()
    assert len(asked) == 1


@pytest_twisted.ensureDeferred
async def test_what_is_on_disk_is_read_past(way: str, move: Move) -> None:
    """Bytes that are present are neither written nor reported, wherever they are in the stream."""
    move.present = Extents.of((0, 10), (1_000_000, 1_500_000), (SIZE - 5, SIZE))
    await move.run(_sized(BODY))
    assert move.written == Extents.of((10, 1_000_000), (1_500_000, SIZE - 5))
    assert move.came == SIZE
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
async def test_a_network_that_is_gone_is_an_error(
    way: str, move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a connection fails, it is the origin's error, and what came is kept."""

    def unreachable(*_: object) -> int:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    for each in (mover._Splice, mover._Copy):
        monkeypatch.setattr(each, "move", unreachable)
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
    running.addTimeout(20, reactor)
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
    running.addTimeout(20, reactor)
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


def _dripping(head: bytes, piece: Callable[[int], bytes]) -> Callable[[Peer], Awaitable[None]]:
    """Sends 50,000 bytes at once, and then a byte now and then."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n", head, piece(50_000))
        while peer.reason is None:
            await pause(0.05)
            peer.send(piece(1))

    return script


_drips = pytest.mark.parametrize(
    "script",
    [
        _dripping(b"Content-Length: %d\r\n\r\n" % SIZE, lambda count: BODY[:count]),
        _dripping(b"Transfer-Encoding: chunked\r\n\r\n", lambda n: b"%x\r\n%b\r\n" % (n, BODY[:n])),
    ],
    ids=["sized", "chunked"],
)


@pytest_twisted.ensureDeferred
@_drips
async def test_a_slow_drip_is_given_up(tmp_path: Path, script: Callable[[Peer], Awaitable[None]]) -> None:
    """An origin that always sends something, and never much, is gone as one that is silent."""
    move = Move(tmp_path / "body", silence=1.0, min_rate=1000)
    with pytest.raises(OriginTimeout, match="only"):
        await move.run(script)
    assert 50_000 <= move.written.total < 52_000
    assert os.pread(move.fd, 50_000, 0) == BODY[:50_000]
    os.close(move.fd)


@pytest_twisted.ensureDeferred
@_drips
async def test_a_slow_drip_may_be_allowed(tmp_path: Path, script: Callable[[Peer], Awaitable[None]]) -> None:
    """Without a least rate, anything but silence will do."""
    move = Move(tmp_path / "body", silence=1.0)
    running = Deferred.fromCoroutine(move.run(script))
    await pause(2.5)
    assert not running.called
    move.transfer.give_up()
    with pytest.raises(TransferStopped):
        await running
    os.close(move.fd)


@pytest_twisted.ensureDeferred
async def test_a_slow_disk_is_not_the_origins_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the time counts in which the origin was waited for."""
    move = Move(tmp_path / "body", silence=1.0, min_rate=1 << 30)
    write = mover._write_all
    delays = [0.6, 0.6]

    def slowly(*args: Any) -> None:
        time.sleep(delays.pop() if delays else 0)
        write(*args)

    async def script(peer: Peer) -> None:
        """Is waited for after the slow writes, and once more, so that their time would have been told."""
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for start, stop in pairwise((0, SIZE - 20, SIZE - 10, SIZE)):
            await eventually(lambda start=start: move.written.total == start)  # type: ignore[misc]
            peer.send(BODY[start:stop])

    monkeypatch.delattr(os, "splice")
    monkeypatch.setattr(mover, "_write_all", slowly)
    await move.run(script)
    assert delays == []
    assert move.right()
    assert move.written == Extents.of((0, SIZE))
    os.close(move.fd)


@pytest_twisted.ensureDeferred
async def test_a_silent_origin_keeps_no_thread(move: Move) -> None:
    """While there is nothing to read, the reactor waits; what comes then is moved on as before."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE, BODY[:50_000])
        await eventually(lambda: move.written.total == 50_000 and not move.busy)
        peer.send(BODY[50_000:100_000])
        await eventually(lambda: move.written.total == 100_000 and not move.busy)
        peer.send(BODY[100_000:])

    await move.run(script)
    assert move.right()
    assert move.written == Extents.of((0, SIZE))


@pytest_twisted.ensureDeferred
async def test_threads_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two transfers and one thread: neither waits for the end of the other, nor loses a byte."""
    monkeypatch.setattr(mover, "_TURN", 0.0)
    monkeypatch.setattr(mover, "_STEP", 100_000)
    one = ThreadPool(0, 1)
    one.start()
    left: list[int] = []
    moves = [Move(tmp_path / name) for name in ("a", "b")]
    for each in moves:
        each.transfer._in_thread = partial(threads.deferToThreadPool, reactor, one)

    async def paced(peer: Peer) -> None:
        """Sends on and on, and little until both have begun, so that neither comes to its end before."""
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        sent = 0
        while sent < SIZE and not all(each.written for each in moves):
            peer.send(BODY[sent : sent + 1000])
            sent += 1000
            await pause(0.002)
        left.append(SIZE - sent)
        peer.send(BODY[sent:])

    try:
        await gatherResults([Deferred.fromCoroutine(each.run(paced)) for each in moves])
    finally:
        one.stop()
    assert all(each.right() and each.written == Extents.of((0, SIZE)) for each in moves)
    assert min(left) > 0
    for each in moves:
        os.close(each.fd)


def test_a_turn_ends(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while although there is more to read, when there is nothing more, and at the end."""
    monkeypatch.setattr(mover, "_STEP", 40_000)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    fd = os.open(tmp_path / "body", os.O_RDWR | os.O_CREAT)
    sink = mover.Sink(Span(0, 110_000), fd, 0, Extents.of((0, 5)))
    moved: list[tuple[int, int, bool]] = []
    nobody: Any = None
    moving = mover.Mover(
        Detached(ours, BODY[:10], nobody), sink, lambda *args: moved.append(args), Patience(1)
    )
    theirs.sendall(BODY[10:90_000])
    assert moving.turn() is mover.Turn.DRY
    assert moved[:2] == [(0, 5, False), (5, 10, True)]
    assert sink.position == 90_000
    theirs.sendall(BODY[90_000:150_000])
    monkeypatch.setattr(mover, "_TURN", -1.0)
    assert moving.turn() is mover.Turn.AGAIN
    assert moving.turn() is mover.Turn.DONE
    assert sum(stop - start for start, stop, _ in moved) == 110_000
    assert os.pread(fd, 110_000, 0) == bytes(5) + BODY[5:110_000]
    os.close(fd)
    ours.close()
    theirs.close()


def test_room_is_set_aside(tmp_path: Path) -> None:
    """Ahead of what is written, and given back when the rest does not come; what is there stays as it is."""
    size = 40 << 20
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    fd = os.open(tmp_path / "body", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, size)
    os.pwrite(fd, BODY[:8192], 4 << 20)
    present = Extents.of((4 << 20, (4 << 20) + 8192))
    span = Span(0, 8 << 20)
    sink = mover.Sink(span, fd, 0, present)
    nobody: Any = None
    moving = mover.Mover(Detached(ours, b"", nobody), sink, lambda *args: None, Patience(1))
    theirs.sendall(BODY[:100_000])
    assert moving.turn() is mover.Turn.DRY
    assert _on_disk(fd) >= 8 << 20
    # somebody else gets what is behind
    assert span.shorten(6 << 20) == 6 << 20
    os.pwrite(fd, BODY[:8192], 6 << 20)
    span.give_up()
    with pytest.raises(TransferStopped):
        moving.turn()
    assert _on_disk(fd) <= 3 << 20
    assert os.pread(fd, 100_000, 0) == BODY[:100_000]
    assert os.pread(fd, 8192, 4 << 20) == os.pread(fd, 8192, 6 << 20) == BODY[:8192]
    assert span.shorten(1 << 20) == 6 << 20
    os.close(fd)
    ours.close()
    theirs.close()


def test_what_is_read_past_stays_as_it_is(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the last byte that was missing is there, the file does not change any more."""
    monkeypatch.setattr(mover, "_STEP", 64 << 10)
    monkeypatch.setattr(mover, "_AHEAD", 256 << 10)
    size, missing = 3 << 20, 1 << 20
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    fd = os.open(tmp_path / "body", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, BODY[missing:size], missing)
    whole: list[Stamp] = []

    def moved(start: int, stop: int, kept: bool) -> None:
        if stop == missing:
            whole.append(Stamp.of(fd))
            let_pass(tmp_path / "body")

    sink = mover.Sink(Span(0, size), fd, 0, Extents.of((missing, size)))
    nobody: Any = None
    moving = mover.Mover(Detached(ours, b"", nobody), sink, moved, Patience(5))
    sending = Thread(target=theirs.sendall, args=(BODY[:size],))
    sending.start()
    while moving.turn() is not mover.Turn.DONE:
        pass
    sending.join()
    assert whole[0].fits(fd)
    assert os.pread(fd, size, 0) == BODY[:size]
    os.close(fd)
    ours.close()
    theirs.close()


def _on_disk(fd: int) -> int:
    os.fsync(fd)
    return os.fstat(fd).st_blocks * 512


@pytest_twisted.ensureDeferred
async def test_no_descriptor_for_a_pipe(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes go through a buffer."""

    def pipe() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(mover.os, "pipe", pipe)
    await move.run(_sized(BODY))
    assert move.written == Extents.of((0, SIZE))
    assert move.right()


@pytest_twisted.ensureDeferred
async def test_what_came_is_told_now_and_then(way: str, move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seldom while more comes, at once when nothing does, and all of it when the origin breaks off."""
    monkeypatch.setattr(mover, "_UNTOLD", 60.0)
    monkeypatch.setattr(mover, "_UNTOLD_AT_REST", 0.5)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(move.transfer, "_written", lambda *span: told.append(span))

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for start in range(0, 100_000, 20_000):
            peer.send(BODY[start : start + 20_000])
            await pause(0.005)
        await eventually(lambda: told and told[-1][1] == 100_000)
        peer.send(BODY[100_000:120_000])
        await pause(0.005)
        peer.close()

    with pytest.raises(OriginError):
        await move.run(script)
    assert told[-1][1] == 120_000
    assert len(told) <= 4
    assert [start for start, _ in told] == [0, *(stop for _, stop in told[:-1])]
