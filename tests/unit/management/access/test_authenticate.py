"""Who a caller is, as far as the request itself tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from OpenSSL.crypto import FILETYPE_PEM, X509, load_certificate
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.web.test.requesthelper import DummyChannel
from zope.interface import directlyProvides

from tests.unit.authority import Authority
from tests.unit.management.requests import a_request
from txglancecache.management.access.authenticate import (
    Anonymous,
    AskNobody,
    ByCertificate,
    Certificate,
    NotAuthenticated,
    caller_of,
    introduce,
)


def with_certificate(certificate: X509 | None) -> Any:
    """A channel whose client has shown this certificate."""
    channel: Any = DummyChannel()
    channel.transport.getPeerCertificate = lambda: certificate
    directlyProvides(channel.transport, ISSLTransport)
    return channel


@pytest.fixture
def operator(tmp_path: Path) -> X509:
    """Certificate of CN=operator,O=Example."""
    pem = Authority(tmp_path).issue("CN=operator,O=Example").read_bytes()
    return load_certificate(FILETYPE_PEM, pem[pem.index(b"-----BEGIN CERTIFICATE") :])


def identified(authenticator: Any, request: Any) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(authenticator.identify(request)).addBoth(results.append)
    return results[0]


def test_introduced() -> None:
    """A request has the caller that it was given; one that was given none is anybody's."""
    request = a_request(X_Auth_Token=b"t")
    stranger = caller_of(request)
    assert stranger == Anonymous(headers=((b"X-Auth-Token", b"t"),))
    assert stranger.credentials() == {"roles": []}
    caller = Certificate(subject="CN=a", common_name="a", roles=())
    introduce(request, caller)
    assert caller_of(request) is caller


def test_ask_nobody() -> None:
    """Where nobody is asked, a token is what it came with, for the origin to judge."""
    request = a_request(X_Auth_Token=b"t", X_Service_Token=b"s", Cookie=b"c")
    caller = AskNobody().recall(request)
    assert caller == identified(AskNobody(), request)
    assert caller.headers == ((b"X-Auth-Token", b"t"), (b"X-Service-Token", b"s"))
    assert "t'" not in repr(caller)


def test_operator(operator: X509) -> None:
    """The holder of a certificate with a subject that was named is an admin."""
    by = ByCertificate(frozenset({"CN=operator,O=Example"}))
    request = a_request(with_certificate(operator), X_Auth_Token=b"t")
    caller = by.recall(request)
    assert isinstance(caller, Certificate)
    assert caller == identified(by, request)
    assert caller.name == "CN=operator,O=Example"
    assert caller.headers == ((b"X-Auth-Token", b"t"),)
    assert caller.credentials() == {
        "subject": "CN=operator,O=Example",
        "common_name": "operator",
        "roles": ["admin"],
    }


def test_other_subject(operator: X509) -> None:
    """Another one's has a name, and no role."""
    caller = ByCertificate(frozenset({"CN=operator"})).recall(a_request(with_certificate(operator)))
    assert isinstance(caller, Certificate)
    assert caller.roles == ()


def test_no_certificate() -> None:
    """Without a certificate, or without TLS, nobody knows who it is."""
    by = ByCertificate(frozenset())
    for request in (a_request(with_certificate(None)), a_request()):
        assert by.recall(request) is None
        assert identified(by, request).check(NotAuthenticated)
