"""How the parts are put together."""

from __future__ import annotations

from pathlib import Path
from threading import Timer

import pytest
from twisted.internet.testing import MemoryReactor

from tests.unit.authority import Authority
from txglancecache import tap
from txglancecache.errors import ConfigurationError, DirectoryLocked
from txglancecache.service.config import Settings, load
from txglancecache.service.listening import Inet, listener
from txglancecache.store.directory import Directory


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


@pytest.mark.parametrize("auth", ["keystone", "certificate"])
def test_names_do_not_matter(auth: str) -> None:
    """A management site that knows its callers goes by any name."""
    assert tap.guard_for(listener(MemoryReactor(), "tcp:9394:interface=127.0.0.1"), auth).names is None


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
        _, found = tap.listeners(settings(manage=manage, **known), MemoryReactor())
        assert found.place == Inet("", 9394)
        with pytest.raises(ConfigurationError, match="may not listen on"):
            tap.listeners(settings(manage=manage), MemoryReactor())
    with pytest.raises(ConfigurationError, match="nobody can show a certificate"):
        tap.listeners(settings(manage="tcp:9394", **by_certificate), MemoryReactor())


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
def test_trusted_proxies(address: str, trusted: bool) -> None:
    """A proxy is known by its address or its network; who has no address is nobody's proxy."""
    assert tap.is_trusted(("10.1.0.0/16", "::1/128"))(address) is trusted


def test_taking_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that takes another's place waits until that one has left the directory, and says so."""
    ending = Directory.open(tmp_path)
    leaving = Timer(1, ending.close)
    leaving.start()
    tap.take_over(tmp_path, 60).close()
    leaving.join()
    assert capsys.readouterr().err == (
        f"twistd glancecache: waiting 60 s for another process to leave {tmp_path}\n"
    )


@pytest.mark.parametrize("wait", [0, 0.2])
def test_not_taking_over(tmp_path: Path, wait: float) -> None:
    """It does not wait for ever."""
    staying = Directory.open(tmp_path)
    with pytest.raises(DirectoryLocked):
        tap.take_over(tmp_path, wait)
    staying.close()
