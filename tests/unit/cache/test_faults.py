"""A fill before an origin that does whatever it likes, over real sockets: what is recorded is true, or the
digest is found to be wrong."""

from __future__ import annotations

import hashlib
import os
import random
import re
import tempfile
from pathlib import Path

import pytest
import pytest_twisted
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred

from tests.unit.scripted import Peer, eventually, listen
from txglancecache.cache import retries
from txglancecache.cache.cache import Cache, CacheSettings, Threads
from txglancecache.cache.entry import Entry
from txglancecache.cache.fill import FillSettings
from txglancecache.errors import DigestMismatch, GlanceCacheError
from txglancecache.eviction import S3Fifo
from txglancecache.extents import Extents
from txglancecache.image import Image
from txglancecache.origin.client import OriginClient, OriginURL
from txglancecache.origin.glance import ImageSource
from txglancecache.store.directory import Directory
from txglancecache.store.index import Index

SIZE = 300_007
BODY = random.Random(5).randbytes(SIZE)
IMAGE = Image("image-1", SIZE, "sha512", hashlib.sha512(BODY).hexdigest(), None)

_KINDS = [
    "cut",
    "reset",
    "flip",
    "status",
    "refusal",
    "whole",
    "elsewhere",
    "longer",
    "shorter",
    "chunks",
    "broken chunks",
    "coded",
    "surplus",
    "until close",
    "gibberish",
]
_faults = st.lists(st.tuples(st.sampled_from(_KINDS), st.integers(0, SIZE)), max_size=6)


@define(eq=False)
class Origin:
    """Plays one fault per answer, and is honest when there are none left."""

    faults: list[tuple[str, int]]
    lied: bool = field(default=False, init=False)

    async def __call__(self, peer: Peer) -> None:
        while True:
            self.answer(peer, await peer.head())

    def answer(self, peer: Peer, asked: bytes) -> None:
        kind, at = self.faults.pop(0) if self.faults else ("none", 0)
        wanted = re.search(rb"(?i)range: bytes=(\d+)-(\d+)", asked)
        start, stop = (int(wanted[1]), int(wanted[2]) + 1) if wanted and kind != "whole" else (0, SIZE)
        shift = 1 if kind == "elsewhere" and start else 0
        body = BODY[start - shift : stop - shift]
        at %= len(body)
        if kind == "flip":
            self.lied = True
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        length = len(body) + {"longer": at + 1, "shorter": -at}.get(kind, 0)
        fields = (
            [b"Content-Range: bytes %d-%d/%d" % (start - shift, stop - 1 - shift, SIZE)] if wanted else []
        )
        if kind in ("chunks", "broken chunks"):
            fields.append(b"Transfer-Encoding: chunked")
            cut = b"nonsense\r\n" if kind == "broken chunks" else b"%x\r\n" % (len(body) - at)
            body = (b"%x\r\n%b\r\n" % (at, body[:at]) if at else b"") + cut + body[at:] + b"\r\n0\r\n\r\n"
        elif kind != "until close":
            fields.append(b"Content-Length: %d" % length)
        if kind == "coded":
            fields.append(b"Content-Encoding: gzip")
        status = {"status": b"503 Later", "refusal": b"403 No"}.get(
            kind, b"206 Part" if wanted else b"200 OK"
        )
        if kind == "whole":
            status, fields = b"200 OK", fields[-1:]
        if kind == "gibberish":
            peer.send(os.urandom(5) + b"\r\n\r\n")
        else:
            peer.send(b"HTTP/1.1 " + status + b"\r\n" + b"\r\n".join(fields) + b"\r\n\r\n")
            peer.send(body[:at] if kind in ("cut", "reset") else body)
        if kind == "surplus":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        if kind == "reset":
            peer.reset()
        elif kind in ("cut", "longer", "until close", "gibberish"):
            peer.close()


def true(entry: Entry) -> bool:
    """Whether every byte that is said to be in the file is the image's."""
    fd = entry.body.descriptor
    assert fd is not None
    return all(os.pread(fd, stop - start, start) == BODY[start:stop] for start, stop in entry.extents)


async def fetch(origin: Origin, path: Path, begin: int) -> None:
    """Have it all, however many downloads it takes; the first is of a part from ``begin`` on."""
    server = listen(origin)
    client = OriginClient(
        reactor,
        OriginURL("http", "127.0.0.1", server.number),
        connect_timeout=20,
        response_timeout=20,
        max_connections=9,
    )
    directory = Directory.open(path)
    index = Index(directory.index_path, reactor, threads.deferToThread)
    pools = Threads(threads.deferToThread, threads.deferToThread, threads.deferToThread)
    bounds = CacheSettings(1 << 30, 0, fill=FillSettings(retries=3, silence=20))
    cache = Cache("http://origin", directory, index, reactor, pools, S3Fifo(), bounds)
    cache.load()
    source = ImageSource(client, b"/file", [(b"Host", b"x")])
    mismatches = 0
    try:
        for attempt in range(20):
            entry = await cache.admit(IMAGE)
            start = 0 if attempt else begin
            (reader,) = await cache.read(entry, [(start, SIZE)], whole=not start, source=source)
            with reader:
                try:
                    while reader.left:
                        await reader.wait()
                        count = reader.available()
                        assert origin.lied or true(entry)
                        reader.advance(count)
                except DigestMismatch:
                    assert origin.lied
                    mismatches += 1
                    await eventually(lambda: cache.find("image-1") is None)
                    continue
                except GlanceCacheError:
                    continue
                if not start:
                    assert entry.verified
                    assert entry.extents == Extents.of((0, SIZE))
                    assert true(entry)
                    break
        else:
            raise AssertionError("it never came to an end")
        assert cache.counters.verification_failures == mismatches
        await eventually(lambda: not entry.filling)
        await eventually(lambda: len(list((path / "quarantine").iterdir())) == min(mismatches, 4))
    finally:
        await cache.close()
        await client.close()
        await server.stop()


@given(faults=_faults, begin=st.integers(0, SIZE - 1))
@settings(max_examples=60, deadline=None)
def _has_it_all(faults: list[tuple[str, int]], begin: int) -> None:
    with tempfile.TemporaryDirectory() as path:

        def fetching() -> Deferred[None]:
            done = Deferred.fromCoroutine(fetch(Origin(list(faults)), Path(path), begin))
            return done.addTimeout(30, reactor)

        threads.blockingCallFromThread(reactor, fetching)


@pytest_twisted.ensureDeferred
async def test_what_is_recorded_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an origin does to its answers, no byte is recorded that is not the image's, unless it lied
    about it; nobody completes that body, then. In the end everybody gets the right one."""
    monkeypatch.setattr(retries, "_FIRST_DELAY", 0.001)
    await threads.deferToThread(_has_it_all)
