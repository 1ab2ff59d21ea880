"""Who gets through the gate, and what the others are told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define, field
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from tests.unit.management.access.fake_keystone import URL, FakeKeystone
from txglancecache.management.access.allowing import AllowAll, Policy
from txglancecache.management.access.authenticate import (
    Anonymous,
    AskNobody,
    Authenticator,
    ByCertificate,
    Caller,
    KeystoneUser,
    caller_of,
    still_admitted,
)
from txglancecache.management.access.gate import Gate
from txglancecache.management.access.throttle import Throttle
from txglancecache.management.access.tokens import ByToken

ADMIN, READER = b"gAAAA-admin", b"gAAAA-reader"


class Behind(Resource):
    """What the gate is in front of. It says what is asked of it, and knows by whom."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self.callers: list[Caller] = []
        self.requests: list[IRequest] = []
        self.trouble: Exception | None = None

    def render(self, request: IRequest) -> bytes:
        if self.trouble is not None:
            raise self.trouble
        self.callers.append(caller_of(request))
        self.requests.append(request)
        accept = request.requestHeaders.getRawHeaders(b"Accept", [])
        return b"%s %s %s" % (request.method, request.uri, b",".join(accept))


class OnlyAdmins:
    """A policy."""

    def allows(self, rule: str, caller: Caller) -> bool:
        return "admin" in caller.credentials()["roles"] and rule != "cache_prune"


@define(eq=False)
class World:
    """A gate, its Keystone and a client."""

    policy: Policy = field(factory=OnlyAdmins)
    keystone: FakeKeystone = field(factory=FakeKeystone)
    authenticator: Authenticator | None = None
    behind: Behind = field(factory=Behind)
    treq: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.keystone.know(ADMIN, "admin", "admin")
        self.keystone.know(READER, "reader", "reader")
        clock = self.keystone.clock
        authenticator = self.authenticator or ByToken(self.keystone.keystone, clock, 10.0, self.keystone.wall)
        stub_treq: Any = StubTreq
        self.treq = stub_treq(Gate(self.behind, authenticator, self.policy, Throttle(clock.seconds, burst=3)))

    def send(self, line: str, token: bytes | None = None, accept: str | None = None) -> list[Any]:
        """Send a request; where the response will be, with its body."""
        method, _, path = line.partition(" ")
        fields: dict[str, object] = {}
        if token is not None:
            fields["X-Auth-Token"] = token
        if accept is not None:
            fields["Accept"] = accept
        answers: list[Any] = []
        sent = self.treq.request(method, f"http://cache.example{path}", headers=fields)
        sent.addCallback(
            lambda response: self.treq.content(response).addCallback(lambda body: (response, body))
        )
        sent.addBoth(answers.append)
        return answers

    def ask(self, line: str, token: bytes | None = None, accept: str | None = None) -> tuple[Any, bytes]:
        ((response, body),) = self.send(line, token, accept)
        return response, body

    def status(self, line: str, token: bytes | None = None) -> int:
        """The status; every answer that is the gate's own is a whole one."""
        response, body = self.ask(line, token)
        if response.code != 200 and not line.startswith("HEAD"):
            assert response.length == len(body)
            assert response.headers.getRawHeaders("Cache-Control") == ["no-store"]
            assert json.loads(body)["error"]["code"] == response.code
        return int(response.code)


def test_through() -> None:
    """Who may is let through, and known from there on; the token goes along for the origin."""
    world = World()
    for _ in range(2):
        response, body = world.ask("DELETE /cache/images/71c6?x=1", ADMIN)
        assert (response.code, body) == (200, b"DELETE /cache/images/71c6?x=1 ")
    assert world.keystone.site.asked == [ADMIN]
    for caller in world.behind.callers:
        assert isinstance(caller, KeystoneUser)
        assert (caller.name, caller.headers) == ("admin of demo", ((b"X-Auth-Token", ADMIN),))


def test_asking_again() -> None:
    """Whether a request that takes long would still be let in is found out anew: token, roles and policy."""
    world = World()
    for token in (ADMIN, b"another"):
        world.keystone.know(token, "admin", "admin")
        world.ask("GET /cache/events", token)

    def welcome() -> list[bool]:
        found: list[bool] = []
        for request in world.behind.requests:
            Deferred.fromCoroutine(still_admitted(request)).addCallback(found.append)
        return found

    assert welcome() == [True, True]
    del world.keystone.site.tokens[ADMIN]
    world.keystone.know(b"another", "admin", "reader")
    assert welcome() == [True, True]
    world.keystone.clock.advance(10)
    with capturedLogs():
        assert welcome() == [False, False]
        world.keystone.know(ADMIN, "admin", "admin")
        assert welcome() == [True, False]
        world.keystone.clock.advance(10)
        world.keystone.site.status = 503
        assert welcome() == [False, False]


def test_who_did_it() -> None:
    """The log has who changes something, and not who looks at it."""
    world = World()
    with capturedLogs() as events:
        world.ask("GET /cache", ADMIN)
        world.ask("DELETE /cache/images/71c6?x=1", ADMIN)
    (event,) = [event for event in events if "caller" in event]
    assert formatEvent(event) == "'admin of demo' may DELETE b'/cache/images/71c6'"


def test_head() -> None:
    """HEAD is GET without a body, let through or not."""
    world = World()
    assert world.ask("HEAD /cache", ADMIN)[1] == b""
    assert world.ask("HEAD /cache", ADMIN)[1] == b""
    response, body = world.ask("HEAD /cache", b"wrong")
    assert (response.code, body) == (401, b"")
    assert world.status("HEAD /cache", READER) == 403


def test_no_token() -> None:
    """Who says nothing about itself is told where to get a token."""
    world = World()
    response, _ = world.ask("GET /cache")
    assert response.code == 401
    assert response.headers.getRawHeaders("WWW-Authenticate") == [f'Keystone uri="{URL}"']
    assert world.status("GET /nowhere") == 401
    assert world.behind.callers == []


def test_wrong_role() -> None:
    """Who may not is refused, asked for the first time or not, and by the rule of what is asked for."""
    world = World()
    with capturedLogs() as events:
        assert [world.status("GET /cache", READER), world.status("GET /cache", READER)] == [403, 403]
    assert [event["rule"] for event in events] == ["cache_list", "cache_list"]
    assert world.status("POST /cache/prune", ADMIN) == 403
    assert world.status("GET /nowhere", READER) == 403
    assert world.status("GET /nowhere", ADMIN) == 200


def test_open() -> None:
    """What is open is so without a token, with any, and without asking Keystone."""
    world = World()
    for token in (None, b"wrong", READER):
        assert world.status("GET /cache/health", token) == 200
        assert world.status("GET /versions", token) == 200
    assert world.status("POST /cache/health") == 401
    assert world.keystone.site.asked == []


def test_known() -> None:
    """What the origin decides about is for every valid token."""
    world = World()
    assert world.status("GET /v2/images/71c6", READER) == 200
    assert world.status("GET /v2/images/71c6") == 401


def test_page() -> None:
    """The page is for every browser, and what is behind cannot mistake it for the JSON at its address."""
    world = World()
    response, body = world.ask("GET /cache/", accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert (response.code, body) == (200, b"GET /cache/ text/html")
    for accept in ("application/json", "*/*", "application/json, text/html", "text/html;q=0"):
        assert world.ask("GET /cache/", accept=accept)[0].code == 401
        assert world.ask("GET /cache/", ADMIN, accept)[1] == f"GET /cache/ {accept}".encode()
    assert world.ask("GET /cache", accept="text/html")[0].code == 401


def test_wrong_token() -> None:
    """Many wrong tokens from one address are too many; what is known to be right still is."""
    world = World()
    assert world.status("GET /cache", ADMIN) == 200
    with capturedLogs() as events:
        for number in range(3):
            assert world.status("GET /cache", b"gAAAA-secret-%d" % number) == 401
    assert len([event for event in events if "address" in event]) == 3
    assert "secret" not in repr(events)
    response, _ = world.ask("GET /cache", b"gAAAA-secret-3")
    assert response.code == 429
    assert response.headers.getRawHeaders("Retry-After") == ["6"]
    assert world.status("GET /cache", READER) == 429
    assert len(world.keystone.site.asked) == 4
    assert world.status("GET /cache", ADMIN) == 200
    assert world.status("GET /cache/health") == 200
    world.keystone.clock.advance(6)
    assert world.status("GET /cache", READER) == 403


def test_no_token_is_no_wrong_one() -> None:
    """To bring no token is no attempt at guessing one, and neither is the trouble of Keystone's."""
    world = World()
    for _ in range(5):
        assert world.status("GET /cache") == 401
    world.keystone.site.status = 500
    with capturedLogs():
        assert [world.status("GET /cache", ADMIN) for _ in range(5)] == [503] * 5
    world.keystone.site.status = None
    assert world.status("GET /cache", ADMIN) == 200


def test_keystone_down() -> None:
    """Without Keystone nobody new gets in."""
    world = World()
    world.keystone.site.status = 503
    with capturedLogs():
        response, _ = world.ask("GET /cache", ADMIN)
    assert response.code == 503
    assert response.headers.getRawHeaders("Retry-After") == ["5"]
    assert world.status("GET /cache/health") == 200
    assert world.behind.callers[:-1] == []


def test_waits() -> None:
    """A request waits for Keystone, and goes on when it has answered."""
    world = World()
    world.keystone.site.held = []
    one, other = world.send("GET /cache", ADMIN), world.send("GET /cache", READER)
    assert (one, other) == ([], [])
    world.keystone.let_go()
    world.treq.flush()
    assert [one[0][0].code, other[0][0].code] == [200, 403]


@pytest.mark.parametrize("known", [False, True])
def test_bug_behind(known: bool) -> None:
    """A bug behind the gate is no more than that, whether Keystone has to be asked first or not."""
    world = World()
    if known:
        world.status("GET /cache", ADMIN)
    world.behind.trouble = ZeroDivisionError("secret")
    with capturedLogs() as events:
        response, body = world.ask("GET /cache", ADMIN)
    assert response.code == 500
    assert b"secret" not in body
    assert [event["log_failure"].value for event in events if "log_failure" in event] == [
        world.behind.trouble
    ]


def test_client_gone() -> None:
    """Who leaves while Keystone is asked is answered no more; the next one profits."""
    world = World()
    world.keystone.site.held = []
    request: Deferred[Any] = world.treq.get("http://cache.example/cache", headers={"X-Auth-Token": ADMIN})
    request.addErrback(lambda failure: None)
    with capturedLogs() as events:
        request.cancel()
        world.treq.flush()
        world.keystone.let_go()
    assert events == []
    assert world.behind.callers == []
    assert world.status("GET /cache", ADMIN) == 200
    assert world.keystone.site.asked == [ADMIN]


def test_ask_nobody() -> None:
    """Where nobody is asked, everything is open; a token goes along for the origin."""
    world = World(policy=AllowAll(), authenticator=AskNobody())
    assert world.status("DELETE /cache/images", b"t") == 200
    assert world.status("GET /nowhere") == 200
    assert world.behind.callers == [Anonymous(headers=((b"X-Auth-Token", b"t"),)), Anonymous()]


def test_no_certificate() -> None:
    """Who shows no certificate is refused; HTTP has no challenge for it."""
    world = World(authenticator=ByCertificate(frozenset()))
    assert world.status("GET /cache") == 403
    assert world.status("GET /cache/health") == 200
