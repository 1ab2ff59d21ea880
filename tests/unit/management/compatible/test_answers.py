"""Errors as Glance words them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import pytest
from treq.testing import StubTreq
from twisted.web.resource import Resource
from twisted.web.server import Request

from txglancecache.management.answers import Problem
from txglancecache.management.compatible.answers import page, refuse_in_kind


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ([], "text/plain; charset=UTF-8"),
        (["*/*"], "text/html; charset=UTF-8"),
        (["text/html"], "text/html; charset=UTF-8"),
        (["text/*"], "text/html; charset=UTF-8"),
        (["application/json"], "application/json"),
        (["application/json, text/plain"], "application/json"),
        (["application/json;q=0.9", "text/html;q=0.1"], "application/json"),
        (["application/xml"], "text/plain; charset=UTF-8"),
        (["text/plain"], "text/plain; charset=UTF-8"),
    ],
)
def test_kind(accept: list[str], kind: str) -> None:
    """HTML if that is as good as any, JSON to who prefers it, text to all others."""
    assert page(accept, HTTPStatus.NOT_FOUND, "No.")[0] == kind


def test_text() -> None:
    """The status, an empty line, the message."""
    assert page([], HTTPStatus.FORBIDDEN, "Not <you>.")[1] == "403 Forbidden\n\nNot <you>.\n"


def test_html() -> None:
    """The message where Glance's client looks for it, and no markup but our own."""
    _, text = page(["*/*"], HTTPStatus.NOT_FOUND, "Image <b> & c not found.")
    assert "<title>404 Not Found</title>" in text
    assert "\n  Image &lt;b&gt; &amp; c not found.<br /><br />\n" in text


def test_json() -> None:
    """Message, code and title."""
    _, text = page(["application/json"], HTTPStatus.BAD_REQUEST, "No.")
    assert json.loads(text) == {"message": "No.", "code": "400 Bad Request", "title": "Bad Request"}


class Refusing(Resource):
    isLeaf = True

    def render(self, request: Request) -> bytes:
        return refuse_in_kind(request, Problem(HTTPStatus.FORBIDDEN, "No.", {"X-Why": "because"}))


@pytest.mark.parametrize(
    ("path", "kind"), [("/v2/cache", "text/html; charset=UTF-8"), ("/cache/images", "application/json")]
)
def test_in_kind(path: str, kind: str) -> None:
    """Whoever refuses a request does so in the words of the API that it is for."""
    stub_treq: Any = StubTreq
    site = stub_treq(Refusing())  # type: ignore[no-untyped-call]  # so it is in Twisted
    asked = site.get("http://localhost" + path, headers={"Accept": "*/*"})
    results: list[Any] = []
    asked.addCallback(results.append)
    (response,) = results
    assert response.code == 403
    assert response.headers.getRawHeaders("Content-Type") == [kind]
    assert response.headers.getRawHeaders("X-Why") == ["because"]
