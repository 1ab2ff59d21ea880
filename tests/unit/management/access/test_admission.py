"""What an operator's settings make of the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from treq.testing import StubTreq
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.testing import MemoryReactorClock
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from txglancecache.errors import ConfigurationError
from txglancecache.management.access.admission import Admission, AdmissionSettings


class Behind(Resource):
    """What the gate is in front of."""

    isLeaf = True

    def render(self, request: IRequest) -> bytes:
        return b"in"


def admission(**settings: Any) -> tuple[Admission, MemoryReactorClock]:
    reactor = MemoryReactorClock()
    in_thread: Any = maybeDeferred
    return Admission(AdmissionSettings(**settings), reactor, in_thread), reactor


def answer(admission: Admission, **fields: str) -> Any:
    """The response to `GET /cache`, if there is one by now."""
    stub_treq: Any = StubTreq
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    answers: list[Any] = []
    behind: Any = Behind
    client = stub_treq(admission.gate(behind()))
    client.get("http://cache.example/cache", headers=headers).addBoth(answers.append)
    return answers[0] if answers else None


def test_none() -> None:
    """With nobody asked, everybody is in."""
    assert answer(admission()[0]).code == 200


def test_certificate() -> None:
    """With certificates, nobody is without one."""
    assert answer(admission(auth="certificate", operators=("CN=a",))[0]).code == 403


@pytest.mark.parametrize("url", ["http://keystone.example:5000/v3", "https://keystone.example/v3"])
def test_keystone(url: str) -> None:
    """With Keystone, no token is a 401 that says where it is, and a token has it asked."""
    way, reactor = admission(auth="keystone", keystone_url=url)
    refused = answer(way)
    assert refused.code == 401
    assert refused.headers.getRawHeaders("WWW-Authenticate") == [f'Keystone uri="{url}"']
    assert answer(way, X_Auth_Token="t") is None
    assert reactor.getDelayedCalls()


def test_unknown_kind() -> None:
    """What is no way to know callers lets nobody in."""
    with pytest.raises(ConfigurationError, match="no way to know callers: keystone"):
        answer(admission(auth="keystone")[0])


def test_policy_file(tmp_path: Path) -> None:
    """A policy file is read at once, and watched while the node runs."""
    with pytest.raises(ConfigurationError, match="cannot read /nonexistent"):
        admission(auth="certificate", policy_file="/nonexistent")
    path = tmp_path / "policy.yaml"
    path.write_text("")
    way, reactor = admission(auth="certificate", policy_file=str(path))
    way.start()
    assert len(reactor.getDelayedCalls()) == 1
    ended: list[None] = []
    Deferred.fromCoroutine(way.stop()).addCallback(ended.append)
    assert ended == [None]
    assert not reactor.getDelayedCalls()


def test_nothing_to_watch() -> None:
    """Where there is no policy there is nothing to begin or end."""
    way, reactor = admission()
    way.start()
    Deferred.fromCoroutine(way.stop())
    assert not reactor.getDelayedCalls()
