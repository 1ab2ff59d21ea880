"""What tools look up on the way to the cache is the origin's answer."""

from __future__ import annotations

import json

import pytest

from tests.unit.management.compatible.world import Site
from txglancecache.errors import OriginBusy, OriginUnreachable
from txglancecache.headers import first

VERSIONS = {"versions": [{"id": "v2.15", "status": "CURRENT", "links": [{"rel": "self", "href": "h"}]}]}


@pytest.fixture
def site() -> Site:
    site = Site()
    for path, status in (("/", 300), ("/versions", 200)):
        site.origin.says(path, status, VERSIONS, Content_Type="application/json", Content_MD5="x")
    return site


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/",
        "/v2.9/",
        "/v2/images",
        "/v2/images?name=a%20b&limit=1",
        "/v2/images/a1",
        "/v2.16/images/a1/members",
        "/v2/images/a1/members/p1",
        "/v2/schemas/image",
        "/v2/metadefs/namespaces/x/objects",
    ],
)
def test_path(site: Site, path: str) -> None:
    """The origin is asked for the very same thing, and its answer is passed on."""
    site.origin.says(path, 200, b"[1]", Content_Type="application/json", X_Openstack_Request_Id="req-1")
    response, body = site.ask("GET", path)
    assert (response.code, body) == (200, b"[1]")
    assert response.headers.getRawHeaders("X-Openstack-Request-Id") == ["req-1"]
    assert response.headers.getRawHeaders("Via") == ["1.1 node1"]
    assert response.length == 3
    assert site.origin.paths() == [path]


def test_request_fields(site: Site) -> None:
    """It is asked with the caller's fields, apart from those about the connection and about a body."""
    site.ask(
        "GET",
        "/v2/images",
        Accept="x/y",
        Connection="close, X-Mine",
        X_Mine="1",
        Content_Type="application/octet-stream",
        X_Forwarded_For="6.6.6.6",
    )
    _, _, fields = site.origin.asked[0]
    assert first(fields, b"Host") == b"localhost:9394"
    assert first(fields, b"X-Auth-Token") == b"secret"
    assert first(fields, b"Accept") == b"x/y"
    assert first(fields, b"Via") == b"1.1 node1"
    assert b"6.6.6.6" not in (first(fields, b"X-Forwarded-For") or b"6.6.6.6")
    for gone in (b"Connection", b"X-Mine", b"Content-Type", b"Content-Length"):
        assert first(fields, gone) is None


def test_refusal(site: Site) -> None:
    """A refusal is passed on too, without what concerns the origin's connection."""
    response, body = site.ask("GET", "/v2/images", token=None)
    assert (response.code, body) == (401, b"<html>who?</html>")
    assert response.headers.getRawHeaders("WWW-Authenticate") == ['Keystone uri="http://keystone"']
    assert not response.headers.hasHeader("Connection")
    assert not response.headers.hasHeader("Content-Type")


def test_redirect(site: Site) -> None:
    """So is a redirect, wherever it leads."""
    site.origin.says("/v2", 302, b"", Location="http://localhost:9394/v2/")
    response, _ = site.ask("GET", "/v2")
    assert response.code == 302
    assert response.headers.getRawHeaders("Location") == ["http://localhost:9394/v2/"]


def test_no_content(site: Site) -> None:
    """An answer without a body has no length."""
    site.origin.says("/v2/images/a1", 304, b"")
    response, body = site.ask("GET", "/v2/images/a1")
    assert (response.code, body) == (304, b"")
    assert not response.headers.hasHeader("Content-Length")


def test_head(site: Site) -> None:
    """HEAD stays HEAD, and tells the length of what GET would bring."""
    site.origin.says("/v2/schemas/image", 200, b"{}" * 50)
    response, body = site.ask("HEAD", "/v2/schemas/image")
    assert (response.code, body) == (200, b"")
    assert response.headers.getRawHeaders("Content-Length") == ["100"]
    assert site.origin.asked[0][0] == "HEAD"


@pytest.mark.parametrize(("path", "code"), [("/", 300), ("/versions", 200)])
def test_versions(site: Site, path: str, code: int) -> None:
    """The version document has the versions of the cache's API in it."""
    response, body = site.ask("GET", path, token=None, Accept_Encoding="gzip")
    assert response.code == code
    assert [version["id"] for version in json.loads(body)["versions"]] == ["v2.18", "v2.16", "v2.15", "v2.14"]
    assert response.length == len(body)
    assert not response.headers.hasHeader("Content-MD5")
    assert first(site.origin.asked[0][2], b"Accept-Encoding") == b"identity"
    again, nothing = site.ask("HEAD", path, token=None)
    assert (again.code, nothing) == (code, b"")
    assert again.headers.getRawHeaders("Content-Length") == [str(len(body))]


def test_too_large(site: Site) -> None:
    """What is larger than any document is not taken."""
    site.origin.says("/v2/images", 200, bytes(9 << 20))
    assert site.ask("GET", "/v2/images")[0].code == 502


def test_no_origin(site: Site) -> None:
    """Without the origin there is no answer."""
    site.origin.trouble = OriginUnreachable("refused")
    response, body = site.ask("GET", "/versions")
    assert (response.code, body) == (502, b"502 Bad Gateway\n\nrefused\n")
    site.origin.trouble = OriginBusy("all taken")
    assert site.ask("GET", "/v2/images")[0].code >= 502
