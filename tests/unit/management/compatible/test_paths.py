"""Which requests the compatible API answers."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen
from treq.testing import StubTreq
from twisted.web.resource import Resource
from twisted.web.server import Request

from txglancecache.management.compatible.paths import Normalized, is_for_cache, is_for_glance


@frozen
class Asked:
    """What of a request is looked at."""

    method: bytes
    postpath: list[bytes]


@pytest.mark.parametrize(
    ("method", "path", "cache", "glance"),
    [
        ("GET", "/v2/cache", True, True),
        ("PUT", "/v2/cache/x", True, True),
        ("PATCH", "/v2/cache/x/y/", True, True),
        ("POST", "/v2.18/cache/prune", True, True),
        ("GET", "/v2/cached_images", True, True),
        ("DELETE", "/v2.9/queued_images/x", True, True),
        ("GET", "/v1/cached_images", True, True),
        ("PUT", "/v1/queued_images/x", True, True),
        ("GET", "/", True, True),
        ("HEAD", "/versions", True, True),
        ("OPTIONS", "/", False, True),
        ("POST", "/versions", False, True),
        ("GET", "/versions/", False, True),
        ("GET", "/v1/cache", False, True),
        ("GET", "/v1/images", False, True),
        ("GET", "/v2", False, True),
        ("GET", "/v2/", False, True),
        ("GET", "/v2/images/x/file", False, True),
        ("GET", "/v2//cache", False, True),
        ("GET", "/v2.1234/cache", False, False),
        ("GET", "/v2.x/cache", False, False),
        ("GET", "/v3/cache", False, False),
        ("GET", "/cache", False, False),
        ("GET", "/cache/images", False, False),
        ("GET", "/metrics", False, False),
        ("GET", "/*", False, False),
    ],
)
def test_paths(method: str, path: str, cache: bool, glance: bool) -> None:
    """What is the cache's, and what is Glance's at all."""
    request: Any = Asked(method.encode(), path.encode()[1:].split(b"/"))
    assert is_for_cache(request) is cache
    assert is_for_glance(request) is glance


class Echo(Resource):
    isLeaf = True

    def render(self, request: Request) -> bytes:
        return b"/".join(request.postpath or [])


def test_normalized() -> None:
    """Every minor version of a path is the same path, and no other path is changed."""
    stub_treq: Any = StubTreq
    treq = stub_treq(Normalized(Echo()))  # type: ignore[no-untyped-call]  # so it is in Twisted
    for path, seen in (
        ("/v2.16/cache/x", b"v2/cache/x"),
        ("/v2/v2.16", b"v2/v2.16"),
        ("/v2.x", b"v2.x"),
        ("/cache", b"cache"),
        ("/", b""),
    ):
        results: list[bytes] = []
        treq.get("http://localhost" + path).addCallback(treq.content).addCallback(results.append)
        assert results == [seen]
