"""Which requests a page in a browser cannot have made."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from txglancecache.management.access.guard import Guard

HERE = b"localhost:9394"


def status(
    method: bytes,
    *,
    hosts: tuple[bytes, ...] = (HERE,),
    origins: tuple[bytes, ...] = (),
    sites: tuple[bytes, ...] = (),
    guard: Guard | None = None,
) -> HTTPStatus | None:
    refusal = (guard or Guard()).refusal(method, hosts, origins, sites)
    return refusal.status if refusal is not None else None


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:9394",
        b"localhost.",
        b"127.0.0.1:9394",
        b"127.8.9.10",
        b"[::1]",
        b"[::1]:9394",
    ],
)
def test_loopback_names(host: bytes) -> None:
    """Every way to write a loopback address is one of this site's names."""
    assert status(b"GET", hosts=(host,)) is None


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"192.0.2.1",
        b"localhost@evil.example",
        b"localhost/",
        b"localhost:port",
        b"[::1",
        b"::1",
        b"\xff",
        b"",
    ],
)
def test_other_names(host: bytes) -> None:
    """A name that was re-pointed at this address is not answered, not even for a GET."""
    assert status(b"GET", hosts=(host,)) is HTTPStatus.MISDIRECTED_REQUEST


def test_one_host() -> None:
    """No Host field, or two of them, is no request that could be judged."""
    assert status(b"GET", hosts=()) is HTTPStatus.BAD_REQUEST
    assert status(b"GET", hosts=(HERE, HERE)) is HTTPStatus.BAD_REQUEST


def test_configured_name() -> None:
    """The name that the endpoint was given is one of this site's names too."""
    guard = Guard(frozenset({"cache.internal"}))
    assert status(b"DELETE", hosts=(b"cache.internal:9394",), guard=guard) is None
    assert status(b"GET", hosts=(b"other.internal",), guard=guard) is HTTPStatus.MISDIRECTED_REQUEST


def test_any_name() -> None:
    """On a unix socket the name does not matter, another site's origin still does."""
    guard = Guard(None)
    assert status(b"DELETE", hosts=(b"whatever",), guard=guard) is None
    assert status(b"DELETE", hosts=(b"x",), origins=(b"http://y",), guard=guard) is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"Cross-Site", b"nonsense"])
def test_cross_site(site: bytes) -> None:
    """Another site may link here but change nothing."""
    assert status(b"GET", sites=(site,)) is None
    assert status(b"HEAD", sites=(site,)) is None
    assert status(b"DELETE", sites=(site,)) is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"http://localhost:3000", b"", b"file://localhost:9394"]
)
def test_cross_origin(origin: bytes) -> None:
    """An origin that is not this very site changes nothing, be it on the same machine."""
    assert status(b"POST", origins=(origin,)) is HTTPStatus.FORBIDDEN
    assert status(b"DELETE", origins=(b"http://localhost:9394", origin)) is HTTPStatus.FORBIDDEN


def test_own_page() -> None:
    """A page of this site itself, and a client that is no browser, may."""
    assert status(b"DELETE", origins=(b"http://Localhost:9394",), sites=(b"same-origin",)) is None
    assert status(b"DELETE", sites=(b"none",)) is None
    assert status(b"DELETE") is None
