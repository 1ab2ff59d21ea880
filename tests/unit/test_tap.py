"""How the parts are put together."""

from __future__ import annotations

import pytest
from twisted.internet.testing import MemoryReactor

from txglancecache import tap
from txglancecache.service.listening import listener


@pytest.mark.parametrize(
    ("manage", "names"),
    [
        ("tcp:9394:interface=127.0.0.1", frozenset({"127.0.0.1"})),
        ("tcp:9394:interface=LocalHost", frozenset({"localhost"})),
        ("unix:/run/manage", None),
    ],
)
def test_names_of_the_management_site(manage: str, names: frozenset[str] | None) -> None:
    """The management site goes by the name that it listens on; a unix socket by any."""
    assert tap.guard_for(listener(MemoryReactor(), manage)).names == names


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("::1", True),
        ("127.0.0.1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_trusted_proxies(address: str, trusted: bool) -> None:
    """A proxy is known by its address or its network; who has no address is nobody's proxy."""
    assert tap.is_trusted(("10.1.0.0/16", "::1/128"))(address) is trusted
