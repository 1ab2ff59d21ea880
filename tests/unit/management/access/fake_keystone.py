"""A Keystone in memory: tokens it knows, and what it was asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from attrs import define, field
from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from txglancecache.management.access.keystone import Keystone

URL = "https://keystone.example:5000/v3"


def described(user: str = "alice", *roles: str, expires: float = 3600.0, **changes: object) -> dict[str, Any]:
    """Keystone's description of a token, apart from the changes; None leaves a member out."""
    token: dict[str, object] = {
        "user": {"id": f"{user}-id", "name": user, "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "demo-id", "name": "demo", "domain": {"id": "default", "name": "Default"}},
        "roles": [{"id": f"{role}-id", "name": role} for role in roles],
        "expires_at": datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "methods": ["password"],
        **changes,
    }
    return {"token": {name: value for name, value in token.items() if value is not None}}


@define(eq=False, slots=False)
class _Site(Resource):
    """``/v3/auth/tokens``."""

    isLeaf = True

    tokens: dict[bytes, bytes]
    asked: list[bytes] = field(factory=list)
    status: int | None = None
    held: list[IRequest] | None = None

    def __attrs_post_init__(self) -> None:
        Resource.__init__(self)

    def render(self, request: IRequest) -> bytes | int:
        assert (request.method, request.uri) == (b"GET", b"/v3/auth/tokens?nocatalog")
        (token,) = request.requestHeaders.getRawHeaders(b"X-Auth-Token", [])
        assert request.requestHeaders.getRawHeaders(b"X-Subject-Token") == [token]
        self.asked.append(token)
        if self.held is not None:
            self.held.append(request)
            return NOT_DONE_YET
        return self.answer(request, token)

    def answer(self, request: IRequest, token: bytes) -> bytes:
        if self.status is not None:
            request.setResponseCode(self.status)
            if self.status in (301, 302, 307):
                request.responseHeaders.setRawHeaders(b"Location", [b"http://elsewhere.example/"])
            return b"trouble"
        if token not in self.tokens:
            request.setResponseCode(401)
            return b'{"error": {}}'
        return self.tokens[token]


@define(eq=False)
class FakeKeystone:
    """Keystone, and the one that asks it. The time of day may be ``ahead`` of the clock that nobody sets."""

    clock: Clock = field(factory=Clock)
    ahead: float = 0.0
    site: _Site = field(init=False)
    keystone: Keystone = field(init=False)
    _treq: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.site = _Site({})
        stub_treq: Any = StubTreq
        self._treq = stub_treq(self.site)
        self.keystone = Keystone(self._treq, self.clock, URL, self.wall)

    def wall(self) -> float:
        return self.clock.seconds() + self.ahead

    def know(self, token: bytes, *about: str, **changes: Any) -> None:
        """From now on this token is good."""
        self.site.tokens[token] = json.dumps(described(*about, **changes)).encode("ascii")

    def let_go(self) -> None:
        """Answer what was held."""
        held, self.site.held = self.site.held or [], None
        for request in held:
            (token,) = request.requestHeaders.getRawHeaders(b"X-Auth-Token", [])
            request.write(self.site.answer(request, token))
            request.finish()
        self._treq.flush()
