"""Where a node may be."""

from __future__ import annotations

import re

import pytest

from txglancecache.cli.address import DEFAULT_URL, Address
from txglancecache.cli.outcome import UsageError


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("http://node", Address("http", "node", 9394, ""), "http://node:9394"),
        ("https://node:1/", Address("https", "node", 1, ""), "https://node:1"),
        ("http://[::1]:2/edge/7/", Address("http", "::1", 2, "/edge/7"), "http://[::1]:2/edge/7"),
        ("unix:/run/a b", Address("unix", "localhost", 0, "/run/a b"), "unix:/run/a b"),
        ("unix:///run/x", Address("unix", "localhost", 0, "/run/x"), "unix:/run/x"),
    ],
)
def test_addresses(text: str, address: Address, shown: str) -> None:
    """URLs with and without a port, sockets."""
    assert Address.parse(text) == address
    assert str(address) == shown
    assert address.prefix == ("" if address.scheme == "unix" else address.path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node",
        "node:9394",
        "ftp://x",
        "http://",
        "unix:",
        "unix:x",
        "http://x:y",
        "http://x?y",
        "http://[x",
    ],
)
def test_others(text: str) -> None:
    """Whatever else it is, it is told what to write."""
    with pytest.raises(UsageError, match=re.escape(f"such as {DEFAULT_URL}")):
        Address.parse(text)
