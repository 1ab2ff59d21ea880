"""Certificates and keys out of the operator's files."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.unit.authority import Authority
from txglancecache.errors import ConfigurationError
from txglancecache.service.certificates import tls_towards


@pytest.mark.parametrize("host", ["glance.example", "127.0.0.1", "::1"])
def test_who_we_are(tmp_path: Path, host: str) -> None:
    """The key is in a file of its own, or behind the certificate."""
    authority = Authority(tmp_path)
    both = authority.issue("CN=node")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    key.write_bytes(both.read_bytes().partition(b"-----BEGIN CERT")[0])
    certificate.write_bytes(both.read_bytes()[len(key.read_bytes()) :] + authority.certificate.read_bytes())
    assert tls_towards(host, None, None, None)
    assert tls_towards(host, str(authority.certificate), str(both), None)
    assert tls_towards(host, None, str(certificate), str(key))


def test_what_cannot_be_used(tmp_path: Path) -> None:
    """Each in one line that names the file, and none by asking at the terminal."""
    authority = Authority(tmp_path)
    mine, other = authority.issue("CN=node"), authority.issue("CN=other")
    locked, empty, absent = tmp_path / "locked", tmp_path / "empty", tmp_path / "absent"
    key = load_pem_private_key(mine.read_bytes().partition(b"-----BEGIN CERT")[0], None)
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    empty.touch()
    for cert_file, key_file, message in (
        (absent, None, f"cannot use {absent}: No such file or directory"),
        (mine, absent, f"cannot use {absent}: No such file or directory"),
        (empty, mine, f"cannot use {empty}: it holds no certificates in PEM form"),
        (mine, empty, f"cannot use {empty}: it holds no private key in PEM form"),
        (authority.certificate, None, f"cannot use {authority.certificate}: it holds no private key"),
        (mine, locked, f"cannot use {locked}: the key in it needs a passphrase"),
        (mine, other, f"cannot use {other}: its key is not that of the certificate"),
    ):
        with pytest.raises(ConfigurationError) as found:
            tls_towards("glance", None, str(cert_file), key_file and str(key_file))
        assert str(found.value).startswith(message)
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("host", ["glance_api", "a..b", "x" * 64])
def test_hosts_that_no_certificate_can_be_for(host: str) -> None:
    """Are said to be that, whatever a name service knows about them."""
    with pytest.raises(ConfigurationError, match=f"no certificate can be for a host '{host}': "):
        tls_towards(host, None, None, None)
