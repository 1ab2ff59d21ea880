"""How the parts are put together."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactor

from tests.unit.authority import Authority
from txglancecache import composition
from txglancecache.errors import ConfigurationError
from txglancecache.service.config import Settings, load
from txglancecache.service.listening import Inet, listener


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
    assert composition.guard_for(listener(MemoryReactor(), manage)).names == names


@pytest.mark.parametrize("auth", ["keystone", "certificate"])
def test_names_do_not_matter(auth: str) -> None:
    """A management site that knows its callers goes by any name."""
    assert (
        composition.guard_for(listener(MemoryReactor(), "tcp:9394:interface=127.0.0.1"), auth).names is None
    )


def settings(**changes: str) -> Settings:
    return load((), {"origin": "http://glance", "cache_dir": "/nonexistent", **changes})


def test_public_management_site(tmp_path: Path) -> None:
    """It may listen anywhere if it knows its callers, and has to speak TLS to know them by certificates."""
    authority = Authority(tmp_path)
    by_token = {"manage_auth": "keystone", "keystone_url": "http://keystone"}
    by_certificate = {
        "manage_auth": "certificate",
        "manage_ca_file": str(authority.certificate),
        "manage_subjects": "CN=operator",
    }
    tls = f"ssl:9394:privateKey={authority.issue('CN=localhost', server=True)}"
    for manage, known in ((tls, by_token), ("tcp:9394", by_token), (tls, by_certificate)):
        _, found = composition.listeners(settings(manage=manage, **known), MemoryReactor())
        assert found.place == Inet("", 9394)
        with pytest.raises(ConfigurationError, match="may not listen on"):
            composition.listeners(settings(manage=manage), MemoryReactor())
    with pytest.raises(ConfigurationError, match="nobody can show a certificate"):
        composition.listeners(settings(manage="tcp:9394", **by_certificate), MemoryReactor())
