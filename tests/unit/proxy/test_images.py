"""Image downloads on real sockets: permission, identity, ranges, conditions, and origins at fault."""

from __future__ import annotations

import hashlib
import http.client
import os
from collections.abc import AsyncIterator
from email import message_from_bytes
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.unit.proxy.site import Got, Rig
from tests.unit.scripted import eventually, pause

BODY = os.urandom(2_500_000)
ETAG = f'"sha256:{hashlib.sha256(BODY).hexdigest()}"'


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "cache")
    rig.store("one", BODY)
    yield rig
    await rig.stop()


@pytest_twisted.ensureDeferred
async def test_a_miss_and_a_hit_look_alike_but_for_what_they_say_of_the_cache(rig: Rig) -> None:
    """The fields are Glance's and a few more; the second download takes no byte from the origin."""
    miss = await rig.get("one")
    hit = await rig.get("one")
    for got in (miss, hit):
        assert (got.status, got.body) == (200, BODY)
        assert got.headers["content-type"] == "application/octet-stream"
        assert got.headers["content-md5"] == hashlib.md5(BODY).hexdigest()
        assert got.headers["etag"] == ETAG
        assert got.headers["accept-ranges"] == "bytes"
        assert got.headers["x-openstack-request-id"].startswith("req-")
    assert miss.headers["cache-status"] == "node; fwd=miss; stored"
    assert hit.headers["cache-status"] == "node; hit"
    assert rig.origin.transfers() == [None]


@pytest_twisted.ensureDeferred
async def test_sixteen_cold_clients_one_transfer(rig: Rig) -> None:
    """All get the whole body; all but the first are told that theirs was collapsed into another's."""
    rig.origin.slow = Deferred()
    downloads = [rig.get("one") for _ in range(16)]
    await eventually(lambda: [entry.readers for entry in rig.steward.entries()] == [16])
    rig.origin.slow.callback(None)
    found: list[Got] = [await one for one in downloads]
    assert [(got.status, len(got.body), got.headers) for got in found if got.body != BODY] == []
    statuses = sorted(got.headers["cache-status"] for got in found)
    assert statuses == ["node; fwd=miss; collapsed"] * 15 + ["node; fwd=miss; stored"]
    assert rig.origin.transfers() == [None]


@pytest_twisted.ensureDeferred
async def test_a_client_without_permission_gets_the_origins_answer(rig: Rig) -> None:
    """On a miss, on a hit and for a range, and keeps nobody else from the image."""
    cold = await rig.get("one", token="mallory")
    await rig.get("one")
    hot = await rig.get("one", token="mallory")
    part = await rig.get("one", token="mallory", range="bytes=0-9")
    assert [(got.status, got.body) for got in (cold, hot, part)] == [(404, b"no such image")] * 3
    assert {got.headers["cache-status"] for got in (cold, hot, part)} == {"node; fwd=miss"}
    assert rig.steward.status().counters["denied"] == 3
    assert (await rig.get("one")).headers["cache-status"] == "node; hit"


@pytest_twisted.ensureDeferred
async def test_a_stranger_cannot_flush_what_the_owner_can(rig: Rig) -> None:
    """A 404 drops the entry only when it is said to somebody who had been allowed the image."""
    await rig.get("one")
    await rig.get("one", token="mallory")
    assert rig.steward.entry("one")
    del rig.origin.images["one"]
    assert (await rig.get("one")).status == 404
    assert rig.steward.entry("one") is None


@pytest_twisted.ensureDeferred
async def test_a_deletion_through_the_proxy_drops_the_entry(rig: Rig) -> None:
    """When the origin says that it is done, and only then."""
    await rig.get("one")
    assert (await rig.get("one", "DELETE", token="mallory", path="")).status == 404
    assert rig.steward.entry("one")
    assert (await rig.get("one", "DELETE", path="")).status == 204
    assert rig.steward.entry("one") is None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("hot", [False, True])
@pytest.mark.parametrize("ranged", [False, True])
async def test_ranges(rig: Rig, hot: bool, ranged: bool) -> None:
    """Every form of a single range, whether or not the image is there or its store has ranges."""
    rig.store("one", BODY, ranged=ranged)
    if hot:
        await rig.get("one")
    size = len(BODY)
    for text, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-1000999", 1_000_000, 1_001_000),
        ("bytes=-100", size - 100, size),
        (f"bytes={size - 10}-", size - 10, size),
        (f"bytes={size - 10}-{size + 10}", size - 10, size),
        ("bytes=0-", 0, size),
    ):
        got = await rig.get("one", range=text)
        assert (got.status, got.body) == (206, BODY[start:stop]), text
        assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert got.headers["content-length"] == str(stop - start)


@pytest_twisted.ensureDeferred
async def test_several_ranges_come_as_parts(rig: Rig) -> None:
    """Each part says which bytes it has."""
    got = await rig.get("one", range="bytes=0-9,2000000-2000009,-5")
    assert got.status == 206
    head = f"Content-Type: {got.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + got.body).get_payload()
    assert [part["Content-Range"] for part in parts] == [  # type: ignore[union-attr]
        f"bytes 0-9/{len(BODY)}",
        f"bytes 2000000-2000009/{len(BODY)}",
        f"bytes {len(BODY) - 5}-{len(BODY) - 1}/{len(BODY)}",
    ]
    assert BODY[2_000_000:2_000_010] in got.body
    assert got.body.count(b"\r\n--") == 3
    assert int(got.headers["content-length"]) == len(got.body)


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_satisfied_and_what_is_not_asked_for(rig: Rig) -> None:
    """416 with the size, 304 and 412 without a body, HEAD with the fields; none of them fetches anything."""
    size = len(BODY)
    beyond = await rig.get("one", range=f"bytes={size}-")
    assert (beyond.status, beyond.headers["content-range"], beyond.body) == (416, f"bytes */{size}", b"")
    same = await rig.get("one", if_none_match=ETAG)
    assert (same.status, same.headers["etag"], same.body) == (304, ETAG, b"")
    other = await rig.get("one", if_match='"other"')
    assert (other.status, other.body) == (412, b"")
    head = await rig.get("one", "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(size), b"")
    assert rig.origin.transfers() == []
    changed = await rig.get("one", if_range='"other"', range="bytes=0-9")
    assert (changed.status, changed.body) == (200, BODY)
    unchanged = await rig.get("one", if_range=ETAG, range="bytes=0-9")
    assert (unchanged.status, unchanged.body) == (206, BODY[:10])


@pytest_twisted.ensureDeferred
async def test_an_image_that_changed_is_fetched_anew(rig: Rig) -> None:
    """Another size is seen at once; another digest of the same size when the identity is looked at again."""
    await rig.get("one")
    longer = BODY + b"more"
    rig.store("one", longer)
    assert (await rig.get("one")).body == longer
    swapped = longer[::-1]
    rig.store("one", swapped)
    entry = rig.cache.find("one")
    assert entry
    entry.identified -= 301
    got = await rig.get("one")
    assert (got.body, got.headers["cache-status"]) == (swapped, "node; fwd=miss; stored")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=0-"}, {"Range": f"bytes=0-{len(BODY) + 5}"}])
async def test_no_client_completes_a_wrong_body(rig: Rig, fields: dict[str, str]) -> None:
    """A body with another digest breaks off, is quarantined, and is fetched anew by the next client."""
    image = rig.store("one", BODY, sends=lambda body: body[:-1] + bytes([body[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            await rig.get("one", **fields)
    assert rig.steward.entry("one") is None
    assert rig.steward.status().counters["verification_failures"] == 2
    image.sends = lambda body: body
    got = await rig.get("one", **fields)
    assert (got.status, got.body) == (206 if fields else 200, BODY)


@pytest_twisted.ensureDeferred
async def test_a_small_wrong_body_is_the_gateways_error(rig: Rig) -> None:
    """Where nothing had been sent yet the client is told what is wrong."""
    rig.store("small", b"x" * 1000, sends=lambda body: b"y" * 1000)
    got = await rig.get("small")
    assert got.status == 502
    assert "sha256 is" in got.body.decode()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("options", "detail"),
    [({"status": "queued"}, "not-active"), ({"digest": "?"}, "")],
)
async def test_what_is_not_cached_is_passed_through(rig: Rig, options: dict[str, str], detail: str) -> None:
    """An image that is not active has no entry; one with a digest that is none is checked by its md5."""
    rig.store("two", BODY, **options)
    got = await rig.get("two")
    assert got.body == BODY
    if detail:
        assert got.headers["cache-status"] == f"node; fwd=bypass; detail={detail}"
        assert rig.steward.entry("two") is None
    else:
        assert rig.steward.entry("two").digest.startswith("md5:")  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_what_does_not_fit_is_passed_through(tmp_path: Path) -> None:
    """An image larger than the cache is the origin's to deliver."""
    rig = Rig(tmp_path / "cache", max_size=1 << 20)
    try:
        rig.store("one", BODY)
        got = await rig.get("one")
        assert (got.body, got.headers["cache-status"]) == (BODY, "node; fwd=bypass; detail=no-room")
        assert rig.steward.status().reserved == 0
        assert list(rig.steward.entries()) == []
        rig.store("one", BODY, ranged=False)
        part = await rig.get("one", range="bytes=0-2000000")
        assert (part.status, part.body) == (200, BODY)
    finally:
        await rig.stop()


@pytest_twisted.ensureDeferred
async def test_an_origin_that_will_not_send_answers_for_itself(rig: Rig) -> None:
    """When a fill is refused before the first byte, the client gets what the origin says to it."""
    rig.store("one", BODY, fails=403)
    got = await rig.get("one")
    assert (got.status, got.body) == (403, b"failed")
    assert got.headers["cache-status"] == "node; fwd=bypass; detail=fill-failed"


@pytest_twisted.ensureDeferred
async def test_an_origin_that_is_gone_is_a_bad_gateway(rig: Rig) -> None:
    """Nothing is served from the cache when the origin cannot be asked, and the site lives on."""
    await rig.get("one")
    await rig._ports[0].stopListening()  # type: ignore[misc]
    await rig.client.close()
    got = await rig.get("one")
    assert got.status in (502, 503, 504)
    assert BODY[:100] not in got.body


@pytest_twisted.ensureDeferred
async def test_the_first_client_may_leave(rig: Rig) -> None:
    """The transfer goes on for those who stay, and for the cache."""
    rig.origin.slow = Deferred()
    first, second = rig.get("one"), rig.get("one")
    await eventually(lambda: len(rig.origin.transfers()) == 1)
    first.addErrback(lambda _: None)
    first.cancel()
    await pause(0.05)
    rig.origin.slow.callback(None)
    got: Got = await second
    assert got.body == BODY
    assert rig.origin.transfers() == [None]
    assert rig.steward.entry("one").complete  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_ids_that_are_no_ids_go_to_the_origin(rig: Rig) -> None:
    """A strange id never becomes a key."""
    got = await rig.get("..%2f..%2fetc")
    assert (got.status, got.body) == (404, b"no such image")
    assert list(rig.steward.entries()) == []
