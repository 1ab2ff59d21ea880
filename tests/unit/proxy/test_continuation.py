"""Downloads whose disk gives out under way, on real sockets: they go on from the origin."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.unit.proxy.site import Got, Rig
from tests.unit.scripted import eventually, pause

BODY = os.urandom(2_500_000)
SIZE = len(BODY)
CUT_SHORT = (http.client.IncompleteRead, ConnectionError)


@define(eq=False)
class Disk:
    """Fails to read from some byte on; ``dead``: from everywhere, for those who want to read again."""

    sound: int = SIZE
    dead: bool = False
    asked: list[int] = field(factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sendfile, preadv = os.sendfile, os.preadv

        def send(out: int, fd: int, offset: int, count: int) -> int:
            self.asked.append(offset)
            if offset >= self.sound:
                raise OSError(errno.EIO, "Input/output error")
            return sendfile(out, fd, offset, min(count, self.sound - offset))

        def read(fd: int, buffers: Any, offset: int, *flags: int) -> int:
            if self.dead and not flags:
                raise OSError(errno.EIO, "Input/output error")
            return preadv(fd, buffers, offset, *flags)

        monkeypatch.setattr(os, "sendfile", send)
        monkeypatch.setattr(os, "preadv", read)


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "cache")
    rig.store("one", BODY)
    yield rig
    await rig.stop()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    disk.install(monkeypatch)
    return disk


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ranged", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("sound", [0, 1, 1_000_000, SIZE - 1])
async def test_a_hit_goes_on(rig: Rig, disk: Disk, sound: int, ranged: bool) -> None:
    """From a verified body, wherever it breaks; the entry goes, and the next client fills it anew."""
    rig.store("one", BODY, ranged=ranged)
    await rig.get("one")
    rig.origin.asked.clear()
    disk.sound = sound
    got = await rig.get("one")
    assert (got.status, got.body, got.headers["cache-status"]) == (200, BODY, "node; hit")
    rest = f"bytes={sound}-{SIZE - 1}"
    assert rig.origin.transfers() == [None if sound == 0 else rest, *[None] * (not ranged and sound > 0)]
    assert rig.cache.find("one") is None
    disk.sound = SIZE
    again = await rig.get("one")
    assert (again.body, again.headers["cache-status"]) == (BODY, "node; fwd=miss; stored")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ranged", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("dead", [False, True], ids=["readable", "unreadable"])
async def test_a_miss_goes_on_only_to_a_right_end(rig: Rig, disk: Disk, ranged: bool, dead: bool) -> None:
    """What was sent before it was verified is hashed again, out of the file or from the origin."""
    image = rig.store("one", BODY, ranged=ranged)
    disk.sound, disk.dead = 1_000_000, dead
    assert (await rig.get("one")).body == BODY
    rig.origin.asked.clear()
    first = iter([True])
    image.sends = lambda body: body if next(first, False) else body[:-5] + b"wrong"
    with pytest.raises(CUT_SHORT):
        await rig.get("one")
    assert len(rig.origin.transfers()) == (2 if ranged or dead else 3)


@pytest_twisted.ensureDeferred
async def test_a_miss_whose_beginning_was_wrong_does_not_end(rig: Rig, disk: Disk) -> None:
    """Also when the origin sends the right rest."""
    image = rig.store("one", BODY)
    flips = iter([True])
    image.sends = lambda body: b"wrong" + body[5:] if next(flips, False) else body
    disk.sound = 1_000_000
    with pytest.raises(CUT_SHORT):
        await rig.get("one")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ranged", [True, False], ids=["ranges", "no ranges"])
async def test_parts_go_on(rig: Rig, disk: Disk, ranged: bool) -> None:
    """One, or several with what goes between them; an origin without ranges sends the body once."""
    rig.store("one", BODY, ranged=ranged)
    await rig.get("one")
    disk.sound = 1_000_000
    got = await rig.get("one", range="bytes=500000-1999999")
    assert (got.status, got.body) == (206, BODY[500_000:2_000_000])
    disk.sound = SIZE
    await rig.get("one")
    disk.sound = 1_000_000
    rig.origin.asked.clear()
    got = await rig.get("one", range="bytes=0-9,900000-1099999,2000000-2000009,-5")
    head = f"Content-Type: {got.headers['content-type']}\r\n\r\n".encode("latin-1")
    texts = [f"bytes 0-9/{SIZE}", f"bytes 900000-1099999/{SIZE}", f"bytes 2000000-2000009/{SIZE}"]
    texts.append(f"bytes {SIZE - 5}-{SIZE - 1}/{SIZE}")
    parts = message_from_bytes(head + got.body).get_payload()
    assert [part["Content-Range"] for part in parts] == texts  # type: ignore[union-attr]
    for start, stop in ((0, 10), (900_000, 1_100_000), (2_000_000, 2_000_010), (SIZE - 5, SIZE)):
        assert BODY[start:stop] in got.body
    assert int(got.headers["content-length"]) == len(got.body)
    assert len(rig.origin.transfers()) == (3 if ranged else 2)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ranged", [True, False], ids=["ranges", "no ranges"])
async def test_an_origin_that_breaks_off_is_asked_again(rig: Rig, disk: Disk, ranged: bool) -> None:
    """For what is still missing, as a fill does; and not for ever."""
    image = rig.store("one", BODY, ranged=ranged)
    await rig.get("one")
    disk.sound = 1_000_000
    image.breaks = [100_000, 0, 300_000] if ranged else [1_100_000, 0, 300_000]
    assert (await rig.get("one")).body == BODY
    assert image.breaks == []


@pytest_twisted.ensureDeferred
async def test_an_origin_that_says_no_ends_it(rig: Rig, disk: Disk) -> None:
    """The client had been allowed the image; not any more."""
    image = rig.store("one", BODY)
    await rig.get("one")
    disk.sound = 1_000_000
    image.fails = 403
    with pytest.raises(CUT_SHORT):
        await rig.get("one")


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_leaves_nothing_open(rig: Rig, disk: Disk) -> None:
    """Neither the file nor the connection to the origin."""
    await rig.get("one")
    disk.sound = 200_000
    rig.origin.slow = Deferred()
    rig.origin.asked.clear()
    connection = http.client.HTTPConnection("127.0.0.1", rig._ports[1].getHost().port, timeout=20)

    def ask() -> int:
        connection.request("GET", "/v2/images/one/file", headers={"X-Auth-Token": "alice"})
        return len(connection.getresponse().read(1000))

    assert await rig._clients(ask) == 1000
    await eventually(lambda: len(rig.origin.transfers()) == 1)
    await eventually(lambda: rig.cache.roster.leaving == [])
    connection.close()
    await eventually(lambda: not rig.client._pool._open - rig.client._pool._idle.keys())
    rig.origin.slow = None
    assert (await rig.get("one")).body == BODY


@pytest_twisted.ensureDeferred
async def test_a_slow_client_slows_the_origin(rig: Rig, disk: Disk) -> None:
    """What the client does not take waits at the origin, not here."""
    body = os.urandom(1 << 20) * 48
    rig.store("big", body)
    await rig.get("big")
    disk.sound = 1 << 20
    connection = http.client.HTTPConnection("127.0.0.1", rig._ports[1].getHost().port, timeout=20)

    def begin() -> http.client.HTTPResponse:
        connection.request("GET", "/v2/images/big/file", headers={"X-Auth-Token": "alice"})
        return connection.getresponse()

    answer = await rig._clients(begin)
    sent = lambda: rig.steward.status().counters["bytes_served"]  # noqa: E731
    await pause(0.5)
    assert sent() == len(body)  # the first download's alone: this one is not over
    assert await rig._clients(answer.read) == body
    await eventually(lambda: sent() == 2 * len(body))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ranged", [True, False], ids=["ranges", "no ranges"])
async def test_the_counters_add_up(rig: Rig, disk: Disk, ranged: bool) -> None:
    """Whatever way the bytes of an image take, they are counted once."""
    rig.store("one", BODY, ranged=ranged)
    rig.store("odd", BODY, status="deactivated")
    await rig.get("one")
    disk.sound = 1_000_000
    await rig.get("one")
    await rig.get("odd")
    await rig.get("odd", "HEAD")
    await rig.get("odd", token="mallory")
    counters = rig.cache.counters
    await eventually(lambda: counters.bytes_served == 3 * SIZE)
    assert counters.bytes_from_disk == SIZE + 1_000_000
    assert counters.bytes_passed_through == 2 * SIZE - 1_000_000
    assert counters.bytes_from_origin == counters.bytes_filled == SIZE


@pytest_twisted.ensureDeferred
async def test_many_readers_of_one_failing_body(rig: Rig, disk: Disk) -> None:
    """Each goes on by itself."""
    await rig.get("one")
    disk.sound = 700_000
    downloads: list[Deferred[Got]] = [rig.get("one") for _ in range(16)]
    assert [(await download).body == BODY for download in downloads] == [True] * 16


@pytest_twisted.ensureDeferred
async def test_any_interval_any_place(rig: Rig, disk: Disk) -> None:
    """Whatever is asked for, wherever the disk and the origin break."""
    draw = random.Random(7)
    for _ in range(30):
        stop = draw.randint(1, SIZE)
        start = draw.randrange(stop)
        image = rig.store("one", BODY, ranged=draw.random() < 0.5)
        entry, disk.sound = rig.cache.find("one"), SIZE
        if entry is not None:
            rig.cache.drop(entry, "a new example")
        if draw.random() < 0.5:
            await rig.get("one")
            image.breaks = [draw.randrange(SIZE // 3)]
        disk.sound = draw.randint(0, SIZE)
        got = await rig.get("one", range=f"bytes={start}-{stop - 1}")
        assert (got.status, got.body == BODY[start:stop]) == (206, True), (start, stop, disk, image.ranged)


def truncated(path: Path) -> None:
    os.truncate(path, 12 << 20)


def written_ahead(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"altered")


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    other.replace(path)


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * path.stat().st_size)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("ranged", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("wanted", [None, "bytes=1000-"], ids=["whole", "part"])
@pytest.mark.parametrize(
    "change", [truncated, written_ahead, removed, replaced, overwritten], ids=lambda change: change.__name__
)
async def test_a_file_that_is_changed_while_it_is_served(
    rig: Rig, change: Callable[[Path], None], wanted: str | None, ranged: bool
) -> None:
    """The client gets the right body; or, if what is on its way to it may have changed too, not all of it."""
    body = os.urandom(1 << 20) * 24
    rig.store("big", body, ranged=ranged)
    await rig.get("big")
    (path,) = rig.path.glob("bodies/*/*")
    begun: Deferred[None] = Deferred()

    def ask() -> bytes:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", rig._ports[1].getHost().port))
            fields = "X-Auth-Token: alice\r\nConnection: close\r\n" + (
                f"Range: {wanted}\r\n" if wanted else ""
            )
            connection.sendall(f"GET /v2/images/big/file HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
            file = connection.makefile("rb")
            while file.readline() != b"\r\n":
                pass
            got = file.read(4 << 20)
            reactor.callFromThread(begun.callback, None)
            while not go_on.wait(20):
                pass
            with contextlib.suppress(ConnectionError):
                while data := file.read1(1 << 18):
                    got += data
            return got

    go_on = threading.Event()
    download = rig._clients(ask)
    await begun
    await pause(0.1)
    change(path)
    go_on.set()
    got = await download
    right = body[1000:] if wanted else body
    if change is overwritten:
        assert len(got) < len(right)
    else:
        assert got == right
    again = await rig.get("big")
    assert (again.body == body, again.headers["cache-status"]) == (True, "node; fwd=miss; stored")


@pytest_twisted.ensureDeferred
async def test_a_crowd_that_goes_on_leaves_others_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More clients go on than there are connections to the origin: each gets the whole body in the end, and
    meanwhile whoever comes is answered."""
    rig = Rig(tmp_path / "cache", connections=8)
    rig.store("one", BODY)
    await rig.get("one")
    entry = rig.cache.find("one")
    assert entry is not None
    rig.origin.asked.clear()
    error = BlockingIOError(errno.EAGAIN, "not yet")

    def send(*_: object) -> int:
        raise error

    monkeypatch.setattr(os, "sendfile", send)
    crowd = [rig.get("one") for _ in range(16)]
    await eventually(lambda: len(entry.readers) == 16)
    rig.origin.slow = Deferred()
    error = OSError(errno.EIO, "Input/output error")
    await eventually(lambda: len(rig.origin.transfers()) == 4)
    assert (await rig.get("one", token="mallory")).status == 404
    assert len(rig.origin.transfers()) == 4
    rig.origin.slow.callback(None)
    for got in crowd:
        assert (await got).body == BODY
    await rig.stop()
