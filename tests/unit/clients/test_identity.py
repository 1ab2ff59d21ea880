"""Whose request it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txglancecache.clients.identity import any_of, client_of


def trusted(address: str) -> bool:
    return address.startswith("10.") or address == "fd00::1"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "forwarded", "client"),
    [
        ("192.0.2.1", [], [], "192.0.2.1"),
        ("192.0.2.1", [b"198.51.100.1"], [b"for=198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", [], [], "10.0.0.1"),
        ("10.0.0.1", [b"198.51.100.1"], [], "198.51.100.1"),
        ("10.0.0.1", [b"203.0.113.9, 198.51.100.1"], [], "198.51.100.1"),
        ("10.0.0.1", [b"203.0.113.9", b"198.51.100.1,10.0.0.2"], [], "198.51.100.1"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], [], "10.0.0.3"),
        ("10.0.0.1", [b"198.51.100.1:4711"], [], "198.51.100.1"),
        ("10.0.0.1", [b"unknown"], [], "unknown"),
        ("10.0.0.1", [b" , ,"], [b"for=198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [], [b'for="198.51.100.1:80";proto=http, for=10.0.0.2;by=x'], "198.51.100.1"),
        ("10.0.0.1", [], [b'proto=http;FOR="[2001:db8::1]:80"'], "2001:db8::/64"),
        ("fd00::1", [b"198.51.100.1"], [], "198.51.100.1"),
        ("::ffff:192.0.2.1", [], [], "192.0.2.1"),
        ("2001:db8::1", [], [], "2001:db8::/64"),
        ("2001:db8::2", [], [], "2001:db8::/64"),
        ("fe80::1%eth0", [], [], "fe80::/64"),
        ("", [b"198.51.100.1"], [], ""),
    ],
)
def test_clients(peer: str, forwarded_for: list[bytes], forwarded: list[bytes], client: str) -> None:
    """The last in the chain who is not trusted, by a name that it cannot choose."""
    assert client_of(peer, forwarded_for, forwarded, trusted) == client


@given(st.lists(st.binary()), st.lists(st.binary()))
def test_nonsense(forwarded_for: list[bytes], forwarded: list[bytes]) -> None:
    """Whatever a proxy passes on, there is a name, and not a long one."""
    assert len(client_of("10.0.0.1", forwarded_for, forwarded, trusted)) <= 64


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:10.2.0.1", False),
        ("::1", True),
        ("127.0.0.1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_networks(address: str, trusted: bool) -> None:
    """A proxy is known by its address or its network; who has no address is nobody's proxy."""
    assert any_of(("10.1.0.0/16", "::1/128"))(address) is trusted
