"""The management site over an in-memory HTTP exchange."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define, evolve, field
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from txglancecache.cache.status import CacheStatus, EntryStatus, Event
from txglancecache.errors import NoRoom
from txglancecache.management.app import NodeFacts, management_resource
from txglancecache.management.guard import Guard

CIRROS = EntryStatus(
    image_id="6f1c",
    size=1000,
    bytes_on_disk=300,
    complete=False,
    digest="sha512:abcd",
    hits=3,
    created=1700000000.5,
    last_access=1700000001.5,
    readers=2,
    pinned=False,
    filling=True,
    extents=((0, 200), (900, 1000)),
)
UNUSED = evolve(CIRROS, image_id="a b/ü", last_access=0.0)
STATUS = CacheStatus(
    entries=2,
    bytes_on_disk=600,
    reserved=1400,
    max_size=10_000,
    min_free=10,
    disk_free=5_000,
    quarantined=1,
    counters={"hits": 3, "misses": 1},
)
MISMATCH = Event(1700000002.0, "verification-failed", "6f1c", "sha512 is 00, not ab")


@define(eq=False)
class FakeCache:
    """Some entries, and what became of them."""

    images: dict[str, EntryStatus] = field(factory=lambda: {e.image_id: e for e in (CIRROS, UNUSED)})
    events: tuple[Event, ...] = (MISMATCH,)
    trouble: Exception | None = None
    pending: Deferred[None] | None = None

    def status(self) -> CacheStatus:
        if self.trouble is not None:
            raise self.trouble
        return STATUS

    def entries(self) -> list[EntryStatus]:
        return list(self.images.values())

    def entry(self, image_id: str) -> EntryStatus | None:
        return self.images.get(image_id)

    async def purge(self, image_id: str) -> bool:
        if self.pending is not None:
            await self.pending
        if self.trouble is not None:
            raise self.trouble
        return self.images.pop(image_id, None) is not None

    async def purge_all(self) -> int:
        count = len(self.images)
        self.images.clear()
        return count


@define(eq=False)
class Site:
    """The management site of one node, and a client of it."""

    cache: FakeCache = field(factory=FakeCache)
    clock: Clock = field(factory=Clock)
    treq: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        node = NodeFacts(
            name="node1", version="1.2", origin="http://glance:9292", started=self.clock.seconds()
        )
        resource = management_resource(self.cache, node, Guard(), clock=self.clock.seconds)
        stub_treq: Any = StubTreq
        self.treq = stub_treq(resource)

    def ask(self, method: str, path: str, **fields: str) -> tuple[Any, Any]:
        """The response, and its body as JSON (None for no body)."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        response = result(self.treq.request(method, "http://localhost:9394" + path, headers=headers))
        body = result(self.treq.content(response))
        assert response.headers.getRawHeaders("Cache-Control") == ["no-store"]
        if not body:
            return response, None
        assert response.headers.getRawHeaders("Content-Type") == ["application/json"]
        assert response.length == len(body)
        return response, json.loads(body)

    def refused(self, code: int, title: str, method: str, path: str, **fields: str) -> Any:
        """Ask for an error; its response."""
        response, body = self.ask(method, path, **fields)
        assert response.code == code
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "title", "message"}
        assert (body["error"]["code"], body["error"]["title"]) == (code, title)
        return response


def result(deferred: Deferred[Any]) -> Any:
    """What an answered request came to; it must have been answered."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, results.append)
    assert results, "not answered yet"
    return results[0]


@pytest.fixture
def site() -> Site:
    return Site()


def test_overview(site: Site) -> None:
    """`GET /cache` tells of the node and of its whole cache."""
    site.clock.advance(12.5)
    response, body = site.ask("GET", "/cache")
    assert response.code == 200
    assert body == {
        "node": "node1",
        "version": "1.2",
        "uptime": 12.5,
        "origin": "http://glance:9292",
        "entries": 2,
        "sizes": {
            "bytes_on_disk": 600,
            "reserved": 1400,
            "max_size": 10_000,
            "min_free": 10,
            "disk_free": 5_000,
            "quarantined": 1,
        },
        "counters": {"hits": 3, "misses": 1},
        "events": [
            {
                "time": 1700000002.0,
                "kind": "verification-failed",
                "image_id": "6f1c",
                "detail": "sha512 is 00, not ab",
            }
        ],
    }


def test_list(site: Site) -> None:
    """`GET /cache/images` tells of each entry; one that was never asked for has no last access."""
    response, body = site.ask("GET", "/cache/images")
    assert response.code == 200
    expected = {
        "id": "6f1c",
        "size": 1000,
        "bytes_on_disk": 300,
        "complete": False,
        "digest": "sha512:abcd",
        "hits": 3,
        "created": 1700000000.5,
        "last_access": 1700000001.5,
        "readers": 2,
        "pinned": False,
        "filling": True,
    }
    assert body == {"images": [expected, expected | {"id": "a b/ü", "last_access": None}]}


def test_one(site: Site) -> None:
    """`GET /cache/images/{id}` adds which bytes are there."""
    _, body = site.ask("GET", "/cache/images/6f1c")
    assert (body["id"], body["extents"]) == ("6f1c", [[0, 200], [900, 1000]])


def test_unknown_image(site: Site) -> None:
    """An image that is not in the cache is not found, by GET, HEAD and DELETE."""
    site.refused(404, "Not Found", "GET", "/cache/images/nope")
    site.refused(404, "Not Found", "DELETE", "/cache/images/nope")
    response, body = site.ask("HEAD", "/cache/images/nope")
    assert (response.code, body) == (404, None)


def test_purge(site: Site) -> None:
    """`DELETE /cache/images/{id}` drops that entry and says no more than that."""
    response, body = site.ask("DELETE", "/cache/images/6f1c")
    assert (response.code, body) == (204, None)
    assert list(site.cache.images) == ["a b/ü"]


def test_purge_all(site: Site) -> None:
    """`DELETE /cache/images` drops all entries and counts them."""
    response, body = site.ask("DELETE", "/cache/images")
    assert (response.code, body) == (200, {"purged": 2})
    assert site.cache.images == {}


def test_purge_takes_its_time(site: Site) -> None:
    """The answer to a purge comes when the entry is gone, not before."""
    site.cache.pending = Deferred()
    waiting = site.treq.delete("http://localhost/cache/images/6f1c")
    answered: list[Any] = []
    waiting.addCallback(answered.append)
    assert not answered
    site.cache.pending.callback(None)
    site.treq.flush()
    assert [response.code for response in answered] == [204]


def test_head(site: Site) -> None:
    """HEAD is GET without the body."""
    for path in ("/cache", "/cache/images", "/cache/images/6f1c"):
        response, body = site.ask("HEAD", path)
        assert (response.code, body) == (200, None)


def test_methods(site: Site) -> None:
    """Another method is refused together with those there are."""
    for path, allow in (
        ("/cache", "GET, HEAD"),
        ("/cache/images", "DELETE, GET, HEAD"),
        ("/cache/images/6f1c", "DELETE, GET, HEAD"),
    ):
        for method in ("POST", "PUT", "OPTIONS"):
            response = site.refused(405, "Method Not Allowed", method, path)
            assert response.headers.getRawHeaders("Allow") == [allow]


def test_unknown_paths(site: Site) -> None:
    """What is not there is not found, in JSON like the rest."""
    for path in ("/", "/cache/", "/cache/nope", "/cache/images/6f1c/more", "/v2/images"):
        site.refused(404, "Not Found", "GET", path)
    site.refused(400, "Bad Request", "GET", "/cache/images/%ff")


def test_slashes(site: Site) -> None:
    """Needless slashes are answered with the right address."""
    asked = site.treq.get("http://localhost:9394/cache//images", allow_redirects=False)
    response = result(asked)
    assert response.code == 308
    assert response.headers.getRawHeaders("Location") == ["http://localhost:9394/cache/images"]


def test_encoded_id(site: Site) -> None:
    """An id is decoded once."""
    site.refused(404, "Not Found", "GET", "/cache/images/6f%2531c")
    _, body = site.ask("GET", "/cache/images/%36f1c")
    assert body["id"] == "6f1c"


def test_misdirected(site: Site) -> None:
    """A page whose name was re-pointed at this machine learns and changes nothing."""
    site.refused(421, "Misdirected Request", "GET", "/cache", Host="evil.example")
    site.refused(421, "Misdirected Request", "DELETE", "/cache/images", Host="evil.example:9394")
    assert len(site.cache.images) == 2


def test_cross_site(site: Site) -> None:
    """Another site's page drops nothing."""
    site.refused(403, "Forbidden", "DELETE", "/cache/images", Origin="https://evil.example")
    site.refused(403, "Forbidden", "DELETE", "/cache/images/6f1c", Sec_Fetch_Site="cross-site")
    assert len(site.cache.images) == 2


def test_disk_failure(site: Site) -> None:
    """A purge that the disk refuses says so, and the log has it."""
    site.cache.trouble = NoRoom(12)
    with capturedLogs() as events:
        site.refused(503, "Service Unavailable", "DELETE", "/cache/images/6f1c")
    assert [event["log_failure"].value for event in events if "log_failure" in event] == [site.cache.trouble]


def test_bug(site: Site) -> None:
    """A bug is an answer too; what it was is for the log only."""
    site.cache.trouble = ZeroDivisionError("secret")
    with capturedLogs() as events:
        _, body = site.ask("GET", "/cache")
    assert body["error"]["code"] == 500
    assert "secret" not in json.dumps(body)
    assert [event["log_failure"].value for event in events if "log_failure" in event] == [site.cache.trouble]
