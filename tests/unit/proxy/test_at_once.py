"""Downloads that are answered at once are the ones that the routes would have answered, in the same way."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, evolve, field

from tests.unit.filetimes import let_pass
from tests.unit.proxy.site import Got, Rig
from tests.unit.scripted import eventually
from txglancecache.clients.limits import Limits
from txglancecache.proxy.images import Images
from txglancecache.proxy.site import DataRequest

BODY = os.urandom(4096)
ETAG = f'"sha256:{hashlib.sha256(BODY).hexdigest()}"'
FILE = "/v2/images/one/file"

#: What is asked, and whether the answer is one that can be had at once.
CASES: list[tuple[str, str, dict[str, str], bool]] = [
    ("GET", FILE, {}, True),
    ("GET", "/v2.7/images/one/file", {}, True),
    ("GET", FILE, {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, True),
    ("GET", FILE, {"Accept": "text/html", "User_Agent": "x"}, True),
    ("GET", "/v2/images/%6fne/file", {}, False),
    ("GET", "/v2/images/one/file/", {}, False),
    ("GET", "/v2.x/images/one/file", {}, False),
    ("GET", "//v2/images/one/file", {}, False),
    ("GET", "/v2/images/other/file", {}, False),
    ("get", FILE, {}, False),
    ("HEAD", FILE, {}, False),
    ("POST", FILE, {}, False),
    ("GET", FILE, {"Content_Length": "0"}, False),
    ("GET", FILE, {"Range": "bytes=1-9"}, False),
    ("GET", FILE, {"Range": "bytes=0-4095"}, False),
    ("GET", FILE, {"Range": "bytes=0-0,9-9"}, False),
    ("GET", FILE, {"Range": "bytes=4096-"}, False),
    ("GET", FILE, {"range": "pages=1"}, False),
    ("GET", FILE, {"Range": "bytes=1-9", "If_Range": ETAG}, False),
    ("GET", FILE, {"Range": "bytes=1-9", "If_Range": '"another"'}, False),
    ("GET", FILE, {"If_None_Match": ETAG}, False),
    ("GET", FILE, {"If_None_Match": '"another"'}, False),
    ("GET", FILE, {"If_Match": '"another"'}, False),
    ("GET", FILE, {"Content_Range": "bytes 0-9/10"}, False),
    ("GET", FILE, {"token": "mallory"}, False),
]


@define(eq=False)
class Watch:
    """Which requests were answered at once; and none is, once it is told so."""

    answered: list[bytes] = field(factory=list)
    off: bool = False

    def over(self, at_once: Any) -> Any:
        def watched(images: Images, request: DataRequest, image_id: str) -> bool:
            done = not self.off and at_once(images, request, image_id)
            if done:
                self.answered.append(request.uri)
            return done

        return watched


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(Images, "at_once", watch.over(Images.at_once))
    return watch


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, watch: Watch) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "cache", ttl=60)
    rig.store("one", BODY)
    await _cached(rig)
    yield rig
    await rig.stop()


async def _cached(rig: Rig, path: str = "/file") -> None:
    """Have the image in the cache, verified, and its client known."""
    await rig.get("one", path=path)
    entry = rig.cache.find("one")
    assert entry is not None
    await eventually(lambda: entry.verified and entry.idle)
    await rig.get("one", path=path)


def _lasting(got: Got) -> Got:
    """What is the same each time."""
    passing = {"date", "age", "x-openstack-request-id"}
    headers = {name: value for name, value in got.headers.items() if name not in passing}
    boundary = re.search("boundary=(.*)", headers.get("content-type", ""))
    if boundary:
        headers["content-type"] = "several"
        return Got(got.status, headers, got.body.replace(boundary[1].encode(), b""))
    return evolve(got, headers=headers)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("method", "target", "fields", "at_once"), CASES)
async def test_either_way(
    rig: Rig, watch: Watch, method: str, target: str, fields: dict[str, str], at_once: bool
) -> None:
    """The answer is the same, and so is what is counted."""
    await rig.ask(method, target, **fields)  # so that the origin has been asked already
    watch.answered.clear()

    async def ask() -> tuple[Got, dict[str, int]]:
        before = dict(rig.steward.status().counters)
        got = _lasting(await rig.ask(method, target, **fields))
        after = rig.steward.status().counters
        return got, {name: after[name] - before[name] for name in before}

    quick = await ask()
    assert len(watch.answered) == at_once
    watch.off = True
    assert quick == await ask()


@pytest_twisted.ensureDeferred
async def test_who_has_not_just_been_allowed(rig: Rig, watch: Watch) -> None:
    """Is asked about: another token, another target, and a field that may matter."""
    rig.origin.images["one"].tokens.add("bob")
    watch.answered.clear()
    asked = len(rig.origin.asked)
    for number, (token, target, fields) in enumerate(
        [("bob", FILE, {}), ("alice", f"{FILE}?x=1", {}), ("alice", FILE, {"X_Roles": "admin"})], 1
    ):
        assert (await rig.ask("GET", target, token, **fields)).body == BODY
        assert len(rig.origin.asked) == asked + number
        assert watch.answered == []


@pytest_twisted.ensureDeferred
async def test_several_who_share_a_connection(rig: Rig) -> None:
    """A proxy in front may send one user's request behind another's: each is judged by what it says."""

    def ask() -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", rig._ports[1].getHost().port, timeout=20)
        found = []
        for token in ("alice", "alice", "mallory", "alice", "mallory"):
            connection.request("GET", FILE, headers={"X-Auth-Token": token})
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
        connection.close()
        return found

    assert await rig._clients(ask) == [200, 200, 404, 200, 404]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("options", [{"ttl": 0.0}, {"ttl": 60.0, "revalidate_after": -1.0}])
async def test_nothing_is_at_once_where_the_origin_is_always_asked(
    tmp_path: Path, watch: Watch, options: dict[str, float]
) -> None:
    """Be it for permission or for identity."""
    rig = Rig(tmp_path / "other", **options)  # type: ignore[arg-type]  # none of them is an origin
    rig.store("one", BODY)
    try:
        await _cached(rig)
        asked = len(rig.origin.asked)
        assert (await rig.get("one")).body == BODY
        assert len(rig.origin.asked) > asked
        assert watch.answered == []
    finally:
        await rig.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["written", "replaced", "deleted"])
async def test_a_file_that_somebody_changed(rig: Rig, watch: Watch, how: str) -> None:
    """Is not believed: the body is had anew, and the entry is another."""
    (path,) = (path for path in (rig.path / "bodies").rglob("*") if path.is_file())
    entry = rig.cache.find("one")
    watch.answered.clear()
    let_pass(path)
    if how == "written":
        path.write_bytes(b"x" * len(BODY))
    elif how == "replaced":
        path.with_suffix(".new").write_bytes(b"x" * len(BODY))
        path.with_suffix(".new").replace(path)
    else:
        path.unlink()
    assert (await rig.get("one")).body == BODY
    assert rig.cache.find("one") is not entry
    assert watch.answered == []


@pytest_twisted.ensureDeferred
async def test_an_image_that_is_gone(rig: Rig, watch: Watch) -> None:
    """Purged here, it is fetched again; deleted at the origin through this node, nobody gets it."""
    entry = rig.cache.find("one")
    assert entry is not None
    watch.answered.clear()
    rig.cache.drop(entry, "by the test")
    assert (await rig.get("one")).headers["cache-status"] == "node; fwd=miss; stored"
    assert (await rig.get("one", "DELETE", path="")).status == 204
    assert (await rig.get("one")).status == 404
    assert watch.answered == []


@pytest_twisted.ensureDeferred
async def test_requests_one_after_another(rig: Rig, watch: Watch) -> None:
    """Many on one connection, sent without waiting, are each answered; at the end nothing is left over."""
    site: Any = rig._ports[1].factory  # type: ignore[attr-defined]  # it is a port's
    site.turnstile.limits = evolve(Limits(), requests_per_client=1)
    request = f"GET {FILE} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice\r\n\r\n".encode()
    last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", rig._ports[1].getHost().port), 20) as connection:
            connection.sendall(request * 30 + last)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    watch.answered.clear()
    answers = await rig._clients(ask)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(BODY) == 31
    assert answers.count(b"Connection: close\r\n") == 1
    assert answers.endswith(BODY)
    assert len(watch.answered) >= 29  # the first, with another Host, is not, nor need the last be
    entry = rig.cache.find("one")
    assert entry is not None
    assert entry.hits >= 31
    assert entry.idle
    await eventually(lambda: not site.turnstile._requests and not site.turnstile.connections)


@pytest_twisted.ensureDeferred
async def test_what_goes_wrong_is_answered_as_elsewhere(
    rig: Rig, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first byte with a page, after it by breaking off."""
    watch.answered.clear()
    monkeypatch.setattr(type(rig.cache), "touch", lambda *_, **__: 1 / 0)
    got = await rig.get("one")
    assert (got.status, got.headers["content-type"]) == (500, "application/json")
    assert "etag" not in got.headers
    monkeypatch.undo()
    monkeypatch.setattr(type(rig.observer), "ended", lambda *_, **__: 1 / 0)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        await rig.get("one")
