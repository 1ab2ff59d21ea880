"""An authority that issues certificates for tests, of servers and of clients."""

from __future__ import annotations

import datetime
from pathlib import Path

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@define(eq=False)
class Authority:
    """Its own certificate is in ``certificate``; what it issues is written to ``directory``."""

    directory: Path
    name: str = "authority"
    _key: ec.EllipticCurvePrivateKey = field(init=False)
    _certificate: x509.Certificate = field(init=False)
    certificate: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        usage = x509.BasicConstraints(ca=True, path_length=None)
        self._certificate = (
            self._builder(subject, self._key)
            .issuer_name(subject)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = self.directory / f"{self.name}.pem"
        self.certificate.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, subject: str, *, server: bool = False, expired: bool = False) -> Path:
        """A key and its certificate in one PEM file, for a subject as RFC 4514 writes it.

        A server's is for localhost, whatever its subject is.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name.from_rfc4514_string(subject), key, expired)
        if server:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
            )
        issued = builder.issuer_name(self._certificate.subject).sign(self._key, hashes.SHA256())
        path = self.directory / f"{self.name}-{issued.serial_number}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + issued.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, expired: bool = False
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * _DAY)
            .not_valid_after(now - _DAY if expired else now + _DAY)
        )
