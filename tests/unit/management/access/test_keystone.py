"""What Keystone's answers about a token come to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tests.unit.management.access.fake_keystone import FakeKeystone, described
from txglancecache.management.access.authenticate import CannotTell, KeystoneUser, NotAuthenticated
from txglancecache.management.access.keystone import Keystone, parse

TOKEN = b"gAAAA-secret"


def outcome(work: Any) -> Any:
    """What a coroutine came to: its result or its error; it must have ended."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    assert results, "it has not ended"
    return results[0].value if isinstance(results[0], Failure) else results[0]


def test_valid() -> None:
    """A valid token names its user, project and roles; the user can go on to the origin with it."""
    fake = FakeKeystone()
    fake.know(TOKEN, "alice", "Admin", "member")
    user = outcome(fake.keystone.validate(TOKEN))
    assert isinstance(user, KeystoneUser)
    assert (user.name, user.roles, user.expires) == ("alice of demo", ("admin", "member"), 3600.0)
    assert user.headers == ((b"X-Auth-Token", TOKEN),)
    assert user.credentials() == {
        "user_id": "alice-id",
        "user_domain_id": "default",
        "project_id": "demo-id",
        "project_domain_id": "default",
        "domain_id": None,
        "system_scope": None,
        "is_admin_project": True,
        "roles": ["admin", "member"],
    }
    assert TOKEN.decode() not in repr(user)


@pytest.mark.parametrize(
    "url", ["http://keystone:5000", "http://keystone:5000/v3", "http://cloud/identity/v3"]
)
def test_address(url: str) -> None:
    """Keystone's URL may end in the version of its API, and may have a path before it."""
    asked: list[str] = []

    @define
    class Client:
        def get(self, url: str, **how: object) -> Deferred[object]:
            asked.append(url)
            return fail(ConnectionRefusedError())

    with capturedLogs():
        outcome(Keystone(Client(), Clock(), url).validate(TOKEN))
    assert asked == [url.removesuffix("/v3") + "/v3/auth/tokens?nocatalog"]


def test_unknown() -> None:
    """What Keystone does not know is no token."""
    fake = FakeKeystone()
    refusal = outcome(fake.keystone.validate(TOKEN))
    assert isinstance(refusal, NotAuthenticated)
    assert refusal.tried
    fake.site.status = 404
    assert isinstance(outcome(fake.keystone.validate(TOKEN)), NotAuthenticated)


def test_expired() -> None:
    """A token whose time is up is none, whatever Keystone says."""
    fake = FakeKeystone()
    fake.know(TOKEN, "alice", "admin", expires=100.0)
    fake.clock.advance(100)
    assert isinstance(outcome(fake.keystone.validate(TOKEN)), NotAuthenticated)


@pytest.mark.parametrize("status", [201, 302, 403, 429, 500, 503])
def test_trouble(status: int) -> None:
    """Any other status says nothing about the token; a redirect is not followed."""
    fake = FakeKeystone()
    fake.know(TOKEN, "alice", "admin")
    fake.site.status = status
    with capturedLogs() as events:
        assert isinstance(outcome(fake.keystone.validate(TOKEN)), CannotTell)
    assert [event["status"] for event in events] == [status]
    assert fake.site.asked == [TOKEN]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token": null}',
        b"\xff",
        b'{"token": {"user": {"name": "x"}}}',
        json.dumps(described(expires_at=None)).encode(),
        json.dumps(described(expires_at="tomorrow")).encode(),
        json.dumps(described(roles=[None])).encode(),
        b" " * (1 << 18) + b"{}",
    ],
    ids=range(10),
)
def test_nonsense(body: bytes) -> None:
    """An answer that describes no token lets nobody in."""
    fake = FakeKeystone()
    fake.site.tokens[TOKEN] = body
    with capturedLogs() as events:
        assert isinstance(outcome(fake.keystone.validate(TOKEN)), CannotTell)
    assert len(events) == 1


def test_silence() -> None:
    """A Keystone that does not answer is given up, and what was asked of it with it."""
    fake = FakeKeystone()
    fake.site.held = []
    answers: list[Any] = []
    Deferred.fromCoroutine(fake.keystone.validate(TOKEN)).addBoth(answers.append)
    fake.clock.advance(9)
    assert not answers
    with capturedLogs():
        fake.clock.advance(1)
    assert answers[0].check(CannotTell)


def test_unreachable() -> None:
    """A Keystone that nobody can connect to lets nobody in; the log does not have the token."""

    @define
    class Client:
        def get(self, url: str, **how: object) -> Deferred[object]:
            return fail(ConnectionRefusedError())

    with capturedLogs() as events:
        refusal = outcome(Keystone(Client(), Clock(), "http://keystone").validate(TOKEN))
    assert isinstance(refusal, CannotTell)
    assert len(events) == 1
    assert "secret" not in repr(events)


def test_scopes() -> None:
    """A token may be for a domain, for the system, or for nothing."""
    token = b"t"
    domain = parse(json.dumps(described(project=None, domain={"id": "d", "name": "D"})).encode(), token)
    assert (domain.project, domain.credentials()["domain_id"]) == (None, "d")
    system = parse(json.dumps(described("root", project=None, system={"all": True})).encode(), token)
    assert (system.name, system.credentials()["system_scope"]) == ("root", "all")
    unscoped = parse(json.dumps(described(project=None, roles=None)).encode(), token)
    assert (unscoped.roles, unscoped.credentials()["project_id"]) == ((), None)
