"""Certificates and keys out of the operator's files: what vouches for servers, and who this node says it is.

Whatever is wrong with a file is one `ConfigurationError` in one line. Nobody is asked for a passphrase.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import PKey
from OpenSSL.SSL import Error as SSLError
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from txglancecache.errors import ConfigurationError

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


def trust(path: str | None) -> Any:
    """What vouches for a server; None: the system's authorities."""
    return trustRootFromCertificates(read_certificates(path)) if path else None


def read_certificates(path: str | None) -> list[Certificate]:
    """All certificates in a file, of which there has to be one at least."""
    try:
        found = _CERTIFICATE.findall(Path(path or "").read_bytes())
        if not found:
            raise ValueError
        return [Certificate.loadPEM(pem) for pem in found]
    except (OSError, ValueError, SSLError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificates in PEM form"
        raise ConfigurationError(f"cannot use {path}: {reason}") from None


def tls_towards(
    host: str, ca_file: str | None, cert_file: str | None, key_file: str | None
) -> IOpenSSLClientConnectionCreator:
    """TLS with ``host``, a name or an address, whose certificate has to be for it and of a known authority.

    :param cert_file: this node's own certificate, and those between it and its authority.
    :param key_file: the key that goes with it; None: it is in ``cert_file``.
    """
    chain = read_certificates(cert_file) if cert_file else []
    mine = _private(chain[0], key_file or cert_file) if chain else None
    between = {"extraCertChain": [each.original for each in chain[1:]]} if chain[1:] else None
    trusted = trust(ca_file)
    try:
        options: IOpenSSLClientConnectionCreator = optionsForClientTLS(
            host, trusted, mine, extraCertificateOptions=between
        )
    except UnicodeError as error:
        raise ConfigurationError(f"no certificate can be for a host {host!r}: {error}") from None
    return options


def _private(certificate: Certificate, path: str | None) -> PrivateCertificate:
    try:
        found = _KEY.search(Path(path or "").read_bytes())
        if found is None:
            raise ValueError
        key = PKey.from_cryptography_key(_load(found[0]))
    except OSError as error:
        raise ConfigurationError(f"cannot use {path}: {error.strerror}") from None
    except TypeError:
        raise ConfigurationError(f"cannot use {path}: the key in it needs a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"cannot use {path}: it holds no private key in PEM form") from None
    try:
        mine: PrivateCertificate = PrivateCertificate.fromCertificateAndKeyPair(certificate, KeyPair(key))
    except VerifyError:
        raise ConfigurationError(f"cannot use {path}: its key is not that of the certificate") from None
    return mine


def _load(pem: bytes) -> Any:
    """:raises TypeError: it is encrypted."""
    return load_pem_private_key(pem, None)
