"""What a bug tells the world, in the log and in the answer: where it is, and nothing of who asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.unit.management.access.fake_keystone import FakeKeystone
from tests.unit.management.compatible.world import FakeOrigin
from tests.unit.management.native.world import FakeCache, FakeCatalog, FakeJobs, Site
from tests.unit.traces import A_BUG, broken, broken_later, written_log
from txglancecache.batches import Batches
from txglancecache.management.access.allowing import AllowAll
from txglancecache.management.access.gate import Gate
from txglancecache.management.access.guard import Guard
from txglancecache.management.access.keystone import Keystone
from txglancecache.management.access.throttle import Throttle
from txglancecache.management.access.tokens import ByToken
from txglancecache.management.compatible.api import CompatibleAPI, compatible_resource
from txglancecache.management.compatible.forward import Forward
from txglancecache.management.compatible.paths import is_for_glance
from txglancecache.management.native.api import NativeAPI
from txglancecache.management.native.prefetching import Permission
from txglancecache.management.site import GuardedResource, Part, Parts, management_resource, management_site
from txglancecache.origin.glance import Glance

TOKEN, SIGNATURE, COOKIE = "gAAAAABtoken0123456789", "5ig0123456789abcdef", "c00kie0123456789abcdef"
QUERY = f"?temp_url_sig={SIGNATURE}"
BODY = b'{"images": ["6f1c"]}'
HEAD = (
    f"Host: localhost\r\nX-Auth-Token: {TOKEN}\r\nCookie: session={COOKIE}\r\nReferer: /{QUERY}\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
)
#: The native API takes no query but its own.
OVERVIEW, PREFETCH, LEGACY = "GET /cache", "POST /cache/prefetch", f"GET /v2/cache{QUERY}"
LOOK_UP, QUEUE = f"GET /v2/images{QUERY}", f"PUT /v2/cache/6f1c{QUERY}"
OLD_QUEUE = f"PUT /v2/queued_images/6f1c{QUERY}"


@define(eq=False)
class Connection:
    """A client's connection to a site that knows its callers by their tokens."""

    transport: StringTransport = field(factory=StringTransport)
    keystone: FakeKeystone = field(factory=FakeKeystone)
    channel: IProtocol = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.keystone.know(TOKEN.encode(), "admin", "admin")
        clock, site = self.keystone.clock, Site()
        cache: Any = site.cache
        jobs: Any = site.jobs
        client: Any = FakeOrigin()
        forward = Forward(client, pseudonym=b"node", trusted=lambda address: False)
        compatible = compatible_resource(cache, jobs, Glance(client, clock), forward, Batches(clock))
        by_token = ByToken(self.keystone.keystone, clock, 10.0, self.keystone.wall)
        root = management_resource(
            site.native.resource(),
            Guard(),
            parts=[Part(is_for_glance, compatible)],
            admit=lambda inner: Gate(inner, by_token, AllowAll(), Throttle(clock.seconds)),
        )
        self.channel = management_site(root, reactor=Clock()).buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def ask(self, what: str) -> str:
        """All that is answered."""
        self.channel.dataReceived(f"{what} HTTP/1.1\r\n{HEAD}".encode() + BODY)
        answered: bytes = self.transport.value()
        return answered.decode()


PLACES: list[tuple[type, str, Callable[..., Any], str]] = [
    (GuardedResource, "render", broken, OVERVIEW),
    (Gate, "render", broken, OVERVIEW),
    (Gate, "_identify", broken_later, OVERVIEW),
    (ByToken, "recall", broken, OVERVIEW),
    (ByToken, "identify", broken_later, OVERVIEW),
    (Keystone, "validate", broken_later, OVERVIEW),
    (Keystone, "_ask", broken_later, OVERVIEW),
    (AllowAll, "allows", broken, OVERVIEW),
    (Parts, "render", broken, OVERVIEW),
    (NativeAPI, "_carry_out", broken_later, OVERVIEW),
    (NativeAPI, "overview", broken_later, OVERVIEW),
    (FakeCache, "status", broken, OVERVIEW),
    (Permission, "check", broken_later, PREFETCH),
    (FakeCatalog, "identify", broken_later, PREFETCH),
    (FakeJobs, "submit", broken, PREFETCH),
    (CompatibleAPI, "_answer_cached", broken_later, LEGACY),
    (CompatibleAPI, "_submit", broken, OLD_QUEUE),
    (Forward, "fields", broken, LOOK_UP),
    (Forward, "relay", broken_later, LOOK_UP),
    (FakeOrigin, "request", broken_later, LOOK_UP),
    (Glance, "identify", broken_later, QUEUE),
]


@pytest.mark.parametrize("debugging", [False, True], ids=["", "debugging"])
@pytest.mark.parametrize(("kind", "name", "bug", "what"), PLACES)
def test_a_bug_tells_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    name: str,
    bug: Callable[..., Any],
    what: str,
    debugging: bool,
) -> None:
    """Wherever it is on the way of an operator's request."""
    connection = Connection()
    with written_log(debugging=debugging) as log, monkeypatch.context() as patched:
        patched.setattr(kind, name, bug)
        answer = connection.ask(what)
    text = log.getvalue()
    assert A_BUG in text, answer
    assert answer.startswith(("HTTP/1.1 500 ", "HTTP/1.1 503 "))
    for secret in (TOKEN, SIGNATURE, COOKIE):
        assert secret not in text
        assert secret not in answer
    assert "Traceback" not in answer
    assert A_BUG not in answer
