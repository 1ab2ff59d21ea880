"""Which rule a request comes under."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txglancecache.management.access.permissions import KNOWN, OPEN, UNLISTED, Access, access
from txglancecache.management.access.policy import RULES
from txglancecache.management.native.routes import OPERATIONS


def needed(line: str) -> Access:
    """Of a method and a path as it is sent."""
    method, _, path = line.partition(" ")
    segments = [_decoded(segment) for segment in path.removeprefix("/").split("/")]
    return access(method.encode("ascii"), segments)


def _decoded(segment: str) -> bytes:
    return re.sub(rb"%(..)", lambda found: bytes.fromhex(found[1].decode()), segment.encode("ascii"))


@pytest.mark.parametrize(
    "line",
    [
        "GET /cache/health",
        "HEAD /cache/health",
        "GET /cache/static/page.js",
        "GET /",
        "HEAD /",
        "GET /versions",
        "GET /v2",
        "GET /v2/",
    ],
)
def test_open(line: str) -> None:
    """Whether the process lives, the page's files and the origin's versions are for everybody."""
    assert needed(line) == OPEN


@pytest.mark.parametrize(
    "line",
    ["get /cache/", "Head /cache/", "GET //cache/", "GET ///cache/", "GET /cache%2f", "GET /%2fcache/"],
)
def test_the_page_has_one_name(line: str) -> None:
    """What Klein takes for the same path is the node's own data, which is not for everybody."""
    assert needed("GET /cache/").page
    assert not needed(line).page
    assert needed(line).known
    assert needed(line).rule


@pytest.mark.parametrize(
    "line",
    ["GET /v2/images", "GET /v2/images/1/members", "HEAD /v2/schemas/image", "GET /v2/metadefs/namespaces"],
)
def test_known(line: str) -> None:
    """What is forwarded to the origin, which has rules of its own, is for everybody with a name."""
    assert needed(line) == KNOWN


def test_every_documented_operation() -> None:
    """The table sends each operation to the rule that says so in the policy's sample."""
    for rule in RULES:
        for operation in rule.operations:
            path = re.sub(r"\{\w+\}", "71c6", str(operation["path"]))
            assert needed(f"{operation['method']} {path}") == Access(rule=rule.name), operation


@pytest.mark.parametrize(
    "line",
    [
        "POST /cache/health",
        "PUT /cache",
        "GET /cache/nothing",
        "GET /metrics/",
        "DELETE /v2/images/1",
        "GET /v1/cached_images",
        "GET /v2.14/cache",
        "GET /cache/health/",
        "GET /cache/./health",
        "GET /cache/static/",
        "GET /cache//images",
        "BREW /",
        "GET /cache/images/%FF",
        "GET /anything/at/all",
    ],
)
def test_unlisted(line: str) -> None:
    """Whatever else there may be needs the rule for everything."""
    assert needed(line) == UNLISTED
    assert UNLISTED.rule == "manage_image_cache"


def test_encoded_slash() -> None:
    """A slash is one for Klein however it was sent, and so it is here."""
    assert needed("DELETE /cache/images%2F71c6").rule == "cache_delete"
    assert needed("PUT /cache/images%2F71c6%2Fpin").rule == "cache_pin"
    assert needed("GET //cache/images").rule == "cache_list"


def test_page() -> None:
    """The page is at the one path that may be had as HTML by anybody."""
    assert needed("GET /cache/") == Access(rule="cache_list", page=True)


@given(st.binary(), st.lists(st.binary()))
def test_anything(method: bytes, segments: list[bytes]) -> None:
    """Whatever is asked for, something is needed for it."""
    assert isinstance(access(method, segments), Access)


def test_every_native_operation() -> None:
    """No operation of the native API is left to the rule for everything."""
    for operation in OPERATIONS:
        path = re.sub(r"\{\w+\}", "71c6", operation.path)
        assert needed(f"{operation.method} {path}") != UNLISTED, operation.name
