"""Which requests are downloads, by every way to spell one; and what errors look like."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.logger import LogLevel, capturedLogs

from tests.unit.proxy.site import Rig

BODY = b"x" * 1000


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "cache")
    rig.store("one", BODY)
    yield rig
    await rig.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["get", "Get", "head", "HeaD", "delete"])
async def test_a_method_in_small_letters_is_the_origins_to_read(rig: Rig, method: str) -> None:
    """Methods are told apart by case (RFC 9110 section 9.1): here none of these is known."""
    await rig.get("one")
    await rig.get("one", method, path="/file" if method != "delete" else "")
    assert rig.origin.asked[-1][0] == method
    assert rig.cache.find("one")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("image_id", "path"),
    [
        ("one", "/fi%0ale"),
        ("one%0d%0aSet-Cookie:%20a=b", "/file"),
        ("one%1b%5b31m", "/file"),
        ("one%c2%9b31m", "/file"),
        ("..%2f..%2fetc%2fpasswd", "/file"),
        ("%2e%2e", "/file"),
        ("one%00", "/file"),
        ("one;x", "/file"),
        ("one", "/file;x"),
        ("one", "//file"),
        ("one", "/file/"),
        ("one", "/%66ile"),
        ("one%20", "/file"),
        ("%EF%BC%91", "/file"),
        ("one%ff", "/file"),
        ("one%", "/file"),
        ("one%zz", "/file"),
    ],
)
async def test_what_is_no_plain_path_is_forwarded_as_it_is(rig: Rig, image_id: str, path: str) -> None:
    """It is the origin's to make something of it, it is kept nowhere, and nothing of it is a bug."""
    with capturedLogs() as events:
        got = await rig.get(image_id, path=path)
    assert got.status == 404
    assert rig.origin.asked[-1][1] == f"/v2/images/{image_id}{path}"
    assert rig.steward.status().entries == 0
    assert [event for event in events if event["log_level"] >= LogLevel.error] == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("minor", ["9" * 5000, "1000", "%D9%A3", "x", "0x1", "-1", "%201"])
async def test_what_is_no_version_is_forwarded(rig: Rig, minor: str) -> None:
    """However long it is, and whatever else counts as a digit somewhere."""
    with capturedLogs() as events:
        for method, path in (("GET", "/images/one/file"), ("DELETE", "/images/one")):
            await rig.ask(method, f"/v2.{minor}{path}")
            assert rig.origin.asked[-1][:2] == (method, f"/v2.{minor}{path}")
    assert rig.steward.status().entries == 0
    assert [event for event in events if event["log_level"] >= LogLevel.error] == []


@pytest_twisted.ensureDeferred
async def test_minor_versions_are_one(rig: Rig) -> None:
    """What was downloaded under one is a hit under another."""
    assert (await rig.ask("GET", "/v2.7/images/one/file")).body == BODY
    got = await rig.ask("GET", "/v2.15/images/one/file")
    assert (got.body, got.headers["cache-status"]) == (BODY, "node; hit")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
async def test_errors_are_not_taken_for_anything_else(rig: Rig, accept: str) -> None:
    """Their type is what they say that it is, and no browser guesses another."""
    rig.store("small", BODY, sends=lambda body: b"y" * 1000)
    got = await rig.get("small", accept=accept)
    assert got.status == 502
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-type"] in ("application/json", "text/plain; charset=utf-8")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("fields", [{}, {"range": "bytes=0-9"}, {"if_none_match": "*"}])
async def test_a_refusal_is_the_same_whether_the_image_is_cached_or_not(
    rig: Rig, method: str, fields: dict[str, str]
) -> None:
    """The answer, and what the origin is asked for it."""
    seen = []
    rig.store("two", BODY)
    await rig.get("two")
    for _ in ("not cached", "cached"):
        before = len(rig.origin.asked)
        got = await rig.get("one", method, token="mallory", **fields)
        names = set(got.headers) - {"x-openstack-request-id"}
        asked = [(how, path) for how, path, _ in rig.origin.asked[before:]]
        seen.append((got.status, got.body, got.headers["cache-status"], names, asked))
        await rig.get("one")
    assert seen[0] == seen[1]
    assert seen[0][0] == 404
    assert len(seen[0][-1]) == 1
