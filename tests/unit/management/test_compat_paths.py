"""Which of two resources a request is for."""

from __future__ import annotations

from typing import Any

import pytest
from treq.testing import StubTreq
from twisted.web.resource import Resource
from twisted.web.server import Request

from txglancecache.management.compat_paths import Beside, Normalized, is_for_cache, is_for_glance


def segments(path: str) -> list[bytes]:
    return path.encode()[1:].split(b"/")


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
    assert is_for_cache(method.encode(), segments(path)) is cache
    assert is_for_glance(method.encode(), segments(path)) is glance


class Named(Resource):
    isLeaf = True

    def __init__(self, name: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.name = name

    def render(self, request: Request) -> bytes:
        return self.name + b":" + b"/".join(request.postpath or [])


def test_beside() -> None:
    """Each gets what is for it, and only the compatible API sees paths without minor versions."""
    stub_treq: Any = StubTreq
    treq = stub_treq(Beside(Normalized(Named(b"one")), is_for_cache, Named(b"rest")))
    for path, answer in (
        ("/v2.16/cache/x", b"one:v2/cache/x"),
        ("/v2.16/images", b"rest:v2.16/images"),
        ("/", b"one:"),
    ):
        content = treq.get("http://localhost" + path).addCallback(treq.content)
        treq.flush()
        results: list[bytes] = []
        content.addCallback(results.append)
        assert results == [answer]
