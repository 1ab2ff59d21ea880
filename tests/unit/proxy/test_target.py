"""Request targets and hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txglancecache.headers import is_host
from txglancecache.proxy.target import Target


@pytest.mark.parametrize("text", [b"/", b"//a//", b"/%2F%ff?a=/b?c", b"/a;b=c#d", b"/http://x"])
def test_a_path_stays_as_it_is(text: bytes) -> None:
    """Whatever is in it."""
    assert Target.parse(b"GET", text) == Target(text)


@pytest.mark.parametrize(
    ("method", "text", "target"),
    [
        (b"GET", b"http://glance/v2?a", Target(b"/v2?a", b"glance")),
        (b"GET", b"HTTPS://[::1]:9292//v2", Target(b"//v2", b"[::1]:9292")),
        (b"GET", b"http://glance:9292", Target(b"/", b"glance:9292")),
        (b"GET", b"http://glance?a=b", Target(b"/?a=b", b"glance")),
        (b"OPTIONS", b"http://glance", Target(b"*", b"glance")),
        (b"OPTIONS", b"http://glance/", Target(b"/", b"glance")),
        (b"OPTIONS", b"*", Target(b"*")),
    ],
)
def test_a_url_is_a_path_and_a_host(method: bytes, text: bytes, target: Target) -> None:
    """RFC 9112 section 3.2.2, and 3.2.4 for the server as a whole."""
    assert Target.parse(method, text) == target


@pytest.mark.parametrize(
    "text",
    [
        b"*",
        b"glance",
        b"glance:443",
        b"ftp://glance/",
        b"http://",
        b"http:///path",
        b"http://user@glance/",
        b"http://gl ance/",
        b"/a b",
        b"/\x80",
        b"/\x7f",
        b"",
    ],
)
def test_what_nobody_can_be_asked_for(text: bytes) -> None:
    """Is refused."""
    with pytest.raises(ValueError, match=r"neither|bytes"):
        Target.parse(b"GET", text)


@pytest.mark.parametrize(
    "text", [b"", b"a", b"a:", b"a:80", b"127.0.0.1", b"[::1]:80", b"[fe80::1%25x]", b"a_b", b"x%41"]
)
def test_hosts(text: bytes) -> None:
    """Names, addresses and ports."""
    assert is_host(text)


@pytest.mark.parametrize(
    "text", [b"a b", b"a/b", b"a:b", b"u@h", b"a,b:1:2", b"[::1", b"::1", b"a?b", b"a#b", b"\xff", b'a"b']
)
def test_no_hosts(text: bytes) -> None:
    """Anything that could be taken for more than a host."""
    assert not is_host(text)


@given(st.binary(max_size=40))
def test_what_is_let_through_is_visible(text: bytes) -> None:
    """No target that goes to the origin can end its line or its first word."""
    try:
        target = Target.parse(b"GET", text)
    except ValueError:
        return
    assert target.uri.startswith(b"/")
    assert all(0x20 < byte < 0x7F for byte in target.uri)
