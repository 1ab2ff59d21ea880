"""The native API over an in-memory HTTP exchange."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from tests.unit.management.native.world import PARTIAL, Site, denied, result
from txglancecache.cache.status import JobKind, JobState
from txglancecache.errors import NoRoom, OriginTimeout, OriginUnreachable
from txglancecache.management.native.health import NotReady
from txglancecache.origin.glance import Uncacheable


@pytest.fixture
def site() -> Site:
    return Site()


def ids(body: Any) -> list[str]:
    return [image["id"] for image in body["images"]]


# -- the node ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/cache", "/cache/"])
def test_overview(site: Site, path: str) -> None:
    """The node tells of itself, its whole cache, its queue, and what happened lately."""
    site.clock.advance(12.5)
    site.cache.events.note("verification-failed", "6f1c", "sha512 is 00, not ab")
    site.jobs.submit(JobKind.PREFETCH, ["x", "y"])
    site.jobs.all[2] = evolve(site.jobs.all[2], state=JobState.RUNNING)
    assert site.got(path) == {
        "node": "node1",
        "version": "1.2",
        "uptime": 12.5,
        "origin": "http://glance:9292",
        "auth": "none",
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
        "jobs": {"queued": 1, "running": 1},
        "events": [
            {
                "id": "5e0c94d1-1",
                "serial": 1,
                "time": 1700000002.0,
                "kind": "verification-failed",
                "image_id": "6f1c",
                "detail": "sha512 is 00, not ab",
            }
        ],
    }


def test_counters(site: Site) -> None:
    """The counters can be had alone."""
    assert site.got("/cache/counters") == {"hits": 3, "misses": 1}


def test_events(site: Site) -> None:
    """Who does not ask for a stream gets the latest events, the newest last."""
    site.cache.events.note("pinned", "a")
    site.cache.events.note("unpinned", "a")
    assert [event["kind"] for event in site.got("/cache/events")["events"]] == ["pinned", "unpinned"]
    either = site.got("/cache/events", Accept="application/json, text/event-stream")
    assert len(either["events"]) == 2


# -- images --------------------------------------------------------------------------------------


def test_list(site: Site) -> None:
    """The list tells of each image; one that was never asked for has no last access."""
    body = site.got("/cache/images")
    partial = {
        "id": "6f1c",
        "state": "filling",
        "size": 1000,
        "bytes_on_disk": 300,
        "complete": False,
        "filling": True,
        "pinned": False,
        "digest": "sha512:abcd",
        "hits": 3,
        "created": 1700000000.5,
        "last_access": 1700000001.5,
        "readers": 1,
        "sources": 2,
        "rate": 123.5,
    }
    whole = partial | {
        "id": "a1b2",
        "state": "complete",
        "bytes_on_disk": 1000,
        "complete": True,
        "filling": False,
        "pinned": True,
        "digest": "sha512:ef01",
        "hits": 7,
        "last_access": None,
    }
    assert body == {"images": [partial, whole], "total": 2, "next": None}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=A1", ["a1b2"]),
        ("q=abcd", ["6f1c"]),
        ("state=filling", ["6f1c"]),
        ("state=complete", ["a1b2"]),
        ("state=partial", []),
        ("pinned=true", ["a1b2"]),
        ("pinned=false", ["6f1c"]),
        ("pinned=false&state=complete", []),
        ("sort=hits:desc", ["a1b2", "6f1c"]),
        ("sort=hits", ["6f1c", "a1b2"]),
        ("marker=6f1c", ["a1b2"]),
        ("marker=7", ["a1b2"]),
    ],
)
def test_choice(site: Site, query: str, expected: list[str]) -> None:
    """Images are chosen by what their ids or digests hold, by state, and by pins; and sorted."""
    assert ids(site.got(f"/cache/images?{query}")) == expected


def test_pages(site: Site) -> None:
    """A page says where the next one is, for the same choice in the same order."""
    for number in range(5):
        site.cache.images[f"n{number}"] = evolve(PARTIAL, image_id=f"n{number}", hits=number % 2)
    path, pages = "/cache/images?sort=hits:desc&limit=2&q=n&pinned=false&state=filling", []
    while path:
        body = site.got(path)
        assert body["total"] == 5
        pages.append(ids(body))
        path = body["next"]
    assert pages == [["n3", "n1"], ["n4", "n2"], ["n0"]]


def test_marker_that_left(site: Site) -> None:
    """Where the order depends on more than the id, a page cannot begin after an image that is gone."""
    site.refused(409, "Conflict", "GET", "/cache/images?sort=hits&marker=gone")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", "parameter limit: should be a whole number from 1 to 1000"),
        ("limit=1001", "parameter limit"),
        ("limit=1_0", "parameter limit"),
        ("limit=", "parameter limit"),
        ("state=whole", "parameter state: should be one of complete, partial, filling"),
        ("pinned=yes", "parameter pinned: should be true or false"),
        ("sort=colour", "parameter sort: should be one of id, id:asc"),
        ("marker=a/b", "parameter marker: should be an image's id"),
        ("stat=complete", "the query: 'stat' is unknown; there is: q, state"),
        ("limit=1&limit=2", "parameter limit is there 2 times"),
        ("q=%ff", "the query is not UTF-8"),
        ("x", "'x' is unknown"),
        ("&".join(["q=1"] * 2000), "too many parameters"),
    ],
)
def test_query(site: Site, query: str, said: str) -> None:
    """What a query says and nobody understands is refused with a message that helps."""
    _, message = site.refused(400, "Bad Request", "GET", f"/cache/images?{query}")
    assert said in message


def test_one(site: Site) -> None:
    """One image tells also which bytes are there, and who reads it."""
    body = site.got("/cache/images/6f1c")
    assert (body["id"], body["extents"]) == ("6f1c", [[0, 200], [900, 1000]])
    assert body["readers_list"] == [{"position": 150, "start": 0, "stop": 1000, "whole": True}]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/cache/images/nope"),
        ("DELETE", "/cache/images/nope"),
        ("PUT", "/cache/images/nope/pin"),
        ("DELETE", "/cache/images/nope/pin"),
        ("POST", "/cache/images/nope/verify"),
        ("GET", "/cache/jobs/1"),
        ("GET", "/cache/jobs/one"),
        ("GET", "/cache/jobs/99999999999999999999"),
        ("DELETE", "/cache/jobs/1"),
    ],
)
def test_unknown(site: Site, method: str, path: str) -> None:
    """What is not there is not found."""
    site.refused(404, "Not Found", method, path)


def test_unknown_to_head(site: Site) -> None:
    """Nor by HEAD."""
    response, body = site.ask("HEAD", "/cache/images/nope")
    assert (response.code, body) == (404, None)


def test_purge(site: Site) -> None:
    """An image is purged, which says no more than that."""
    response, body = site.ask("DELETE", "/cache/images/6f1c")
    assert (response.code, body) == (204, None)
    assert list(site.cache.images) == ["a1b2"]


def test_purge_many(site: Site) -> None:
    """The images that are named are purged; those that are not there do not count."""
    _, body = site.ask("DELETE", "/cache/images?id=6f1c&id=nope")
    assert body == {"purged": 1}
    assert list(site.cache.images) == ["a1b2"]


def test_purge_all(site: Site) -> None:
    """Where none is named, all are purged; an empty name is not none."""
    site.refused(400, "Bad Request", "DELETE", "/cache/images?id=")
    _, body = site.ask("DELETE", "/cache/images")
    assert body == {"purged": 2}
    assert site.cache.images == {}


def test_purge_takes_its_time(site: Site) -> None:
    """The answer to a purge comes when the image is gone, not before."""
    site.cache.pending = Deferred()
    waiting = site.treq.delete("http://localhost/cache/images/6f1c")
    answered: list[Any] = []
    waiting.addCallback(answered.append)
    assert not answered
    site.cache.pending.callback(None)
    site.treq.flush()
    assert [response.code for response in answered] == [204]


def test_pin(site: Site) -> None:
    """An image is pinned and unpinned."""
    assert site.ask("PUT", "/cache/images/6f1c/pin")[0].code == 204
    assert site.cache.images["6f1c"].pinned
    assert site.ask("DELETE", "/cache/images/6f1c/pin")[0].code == 204
    assert not site.cache.images["6f1c"].pinned


# -- jobs ----------------------------------------------------------------------------------------


def test_verify(site: Site) -> None:
    """A complete image is queued for verification; an incomplete one has nothing to verify."""
    response, body = site.ask("POST", "/cache/images/a1b2/verify")
    assert response.code == 202
    assert (body["kind"], body["image_id"], body["state"]) == ("verify", "a1b2", "queued")
    site.refused(409, "Conflict", "POST", "/cache/images/6f1c/verify")


def test_verify_all(site: Site) -> None:
    """Every complete image is queued for verification."""
    response, body = site.ask("POST", "/cache/verify")
    assert response.code == 202
    assert [(job["kind"], job["image_id"]) for job in body["jobs"]] == [("verify", "a1b2")]
    assert body["total"] == 1


def test_prefetch(site: Site) -> None:
    """Images are queued with a priority; without a token nobody is asked."""
    response, body = site.ask("POST", "/cache/prefetch", {"images": ["x", "y"], "priority": 5})
    assert response.code == 202
    assert [(job["image_id"], job["priority"]) for job in body["jobs"]] == [("x", 5), ("y", 5)]
    assert site.catalog.asked == []
    assert site.jobs.headers == [None]


def test_prefetch_with_token(site: Site) -> None:
    """The origin is asked in the caller's name, and the queue gets the caller's token and nothing else."""
    site.ask("POST", "/cache/prefetch", {"images": ["x"]}, X_Auth_Token="secret", X_Other="1")
    token = (b"X-Auth-Token", b"secret")
    assert site.catalog.asked == [(b"/v2/images/x", [(b"Host", b"glance:9292"), token])]
    assert [list(headers or ()) for headers in site.jobs.headers] == [[token]]


@pytest.mark.parametrize(
    ("said", "code", "title"),
    [
        (denied(404), 404, "Not Found"),
        (denied(403), 403, "Forbidden"),
        (denied(500), 502, "Bad Gateway"),
        (Uncacheable.NOT_ACTIVE, 400, "Bad Request"),
        (Uncacheable.NO_DIGEST, 400, "Bad Request"),
        (OriginUnreachable("nobody there"), 502, "Bad Gateway"),
        (OriginTimeout("asleep"), 504, "Gateway Timeout"),
    ],
)
def test_prefetch_refused(site: Site, said: Any, code: int, title: str) -> None:
    """If the origin does not give one of the images to the caller, none is queued."""
    site.catalog.said[b"bad"] = said
    images = [*(f"good-{number}" for number in range(20)), "bad"]
    with capturedLogs():
        site.refused(code, title, "POST", "/cache/prefetch", {"images": images}, X_Auth_Token="t")
    assert site.jobs.all == {}


def test_prefetch_with_bad_token(site: Site) -> None:
    """The origin's challenge is passed on."""
    site.catalog.said[b"x"] = denied(401, (b"WWW-Authenticate", b"Keystone uri='http://k'"))
    response, _ = site.refused(
        401, "Unauthorized", "POST", "/cache/prefetch", {"images": ["x"]}, X_Auth_Token="t"
    )
    assert response.headers.getRawHeaders("WWW-Authenticate") == ["Keystone uri='http://k'"]


def test_jobs(site: Site) -> None:
    """Jobs are listed by state and kind, in pages."""
    site.jobs.submit(JobKind.PREFETCH, ["a", "b", "c"])
    site.jobs.submit(JobKind.VERIFY, ["d"])
    site.jobs.cancel(2)
    first = site.got("/cache/jobs?limit=3")
    assert [job["id"] for job in first["jobs"]] == [1, 2, 3]
    assert first["total"] == 4
    second = site.got(first["next"])
    assert ([job["id"] for job in second["jobs"]], second["next"]) == ([4], None)
    assert [job["id"] for job in site.got("/cache/jobs?state=cancelled")["jobs"]] == [2]
    chosen = site.got("/cache/jobs?kind=prefetch&state=queued&limit=1")
    assert chosen["next"] == "/cache/jobs?state=queued&kind=prefetch&limit=1&marker=1"
    assert [job["id"] for job in site.got(chosen["next"])["jobs"]] == [3]


def test_one_job(site: Site) -> None:
    """A job tells how far it has come."""
    site.jobs.submit(JobKind.PREFETCH, ["a"], priority=3)
    site.jobs.all[1] = evolve(
        site.jobs.all[1], state=JobState.RUNNING, size=100, done=40, rate=9.96, eta=6.04
    )
    assert site.got("/cache/jobs/1") == {
        "id": 1,
        "kind": "prefetch",
        "image_id": "a",
        "state": "running",
        "priority": 3,
        "created": 1700000003.0,
        "started": None,
        "finished": None,
        "attempts": 0,
        "size": 100,
        "done": 40,
        "rate": 10.0,
        "eta": 6.0,
        "error": None,
        "next_try": None,
    }


def test_cancel(site: Site) -> None:
    """A job is cancelled once."""
    site.jobs.submit(JobKind.PREFETCH, ["a"])
    assert site.ask("DELETE", "/cache/jobs/1")[0].code == 204
    site.refused(409, "Conflict", "DELETE", "/cache/jobs/1")


def test_cancel_all(site: Site) -> None:
    """All jobs that wait are cancelled and counted."""
    site.jobs.submit(JobKind.PREFETCH, ["a", "b"])
    _, body = site.ask("DELETE", "/cache/jobs")
    assert body == {"cancelled": 2}


# -- upkeep --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "target"),
    [(None, None), ({}, None), ({"target": 5}, 5), ({"target": "1KiB"}, 1024), ({"target": 5.0}, 5)],
)
def test_prune(site: Site, body: object, target: int | None) -> None:
    """The cache is pruned to a size, however that is written, or to its limits."""
    response, answer = site.ask("POST", "/cache/prune", body)
    assert (response.code, answer) == (200, {"files": 2, "bytes": 700})
    assert site.cache.targets == [target]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "the body is not JSON"),
        (b"[]", "should be an object"),
        (b"null", "should be an object"),
        (b"\xff", "not UTF-8"),
        (b'{"target": NaN}', "NaN is no number"),
        (b'{"target": 1, "target": 2}', "'target' is there twice"),
        (b'{"target": -1}', "'target': should be a whole number"),
        (b'{"target": 1.5}', "'target': should be a whole number"),
        (b'{"target": true}', "'target': should be a whole number"),
        (b'{"target": null}', "'target': should be a whole number"),
        (b'{"target": "10G"}', "use GiB (1024-based) or GB (1000-based)"),
        (b'{"target": " 10GB"}', "should be a size such as"),
        (b'{"size": 1}', "'size' is unknown; there is: target"),
        (b'{"target": ' + b"9" * 5000 + b"}", "the body is not JSON"),
        (b"[" * 60000, "nested too deeply"),
        (b'{"target": ' + b"[" * 20 + b"]" * 20 + b"}", "nested too deeply"),
        (b'{"\\ud800": 1}', "is unknown"),
    ],
)
def test_bad_body(site: Site, body: bytes, said: str) -> None:
    """A body that nobody understands is refused with a message that helps."""
    _, message = site.refused(400, "Bad Request", "POST", "/cache/prune", body)
    assert said in message
    assert site.cache.targets == []


def test_bad_prefetch(site: Site) -> None:
    """So is one that does not name images properly."""
    for body, said in (
        (b"", "a body is needed"),
        ({}, "'images' is missing"),
        ({"images": []}, "'images': should have 1 to 1000 members"),
        ({"images": "x"}, "'images': should be a list"),
        ({"images": [1]}, "'images': member 0: should be an image's id"),
        ({"images": ["x", "a/b"]}, "'images': member 1: should be an image's id"),
        ({"images": ["x", "x"]}, "'images': should not name anything twice"),
        ({"images": ["x" * 256]}, "'images': member 0: should have at most 255 characters"),
        ({"images": ["x"], "priority": 5000}, "'priority': should be a whole number from -1000 to 1000"),
    ):
        _, message = site.refused(400, "Bad Request", "POST", "/cache/prefetch", body)
        assert said in message


def test_media_type(site: Site) -> None:
    """A body has to say that it is JSON: what a form sends is not taken."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json2"):
        site.refused(415, "Unsupported Media Type", "POST", "/cache/prune", b"{}", Content_Type=kind)
    kind = "Application/JSON; charset=utf-8"
    assert site.ask("POST", "/cache/prune", b"{}", Content_Type=kind)[0].code == 200


def test_too_long(site: Site) -> None:
    """A body may have 64 KiB, and not a byte more."""
    assert site.ask("POST", "/cache/prune", b"{}" + b" " * (65534))[0].code == 200
    # Python's name for this status changed with 3.13.
    response, body = site.ask("POST", "/cache/prune", b"{}" + b" " * (65535))
    assert (response.code, body["error"]["code"]) == (413, 413)


def test_clean(site: Site) -> None:
    """What is of no use is cleared away and counted."""
    assert site.ask("POST", "/cache/clean")[1] == {"files": 1, "bytes": 300}


def test_quarantine(site: Site) -> None:
    """The quarantine is listed and cleared."""
    file = {"name": "6f1c-1", "image_id": None, "size": 1000, "allocated": 1024, "time": 1700000002.0}
    assert site.got("/cache/quarantine") == {"files": [file]}
    assert site.ask("DELETE", "/cache/quarantine")[1] == {"files": 1, "bytes": 1024}


# -- health --------------------------------------------------------------------------------------


def test_health(site: Site) -> None:
    """A process that answers is healthy."""
    assert site.got("/cache/health") == {"status": "ok"}


def test_ready(site: Site) -> None:
    """A node whose checks are all passed is ready."""
    body = site.got("/cache/ready")
    assert body["ready"]
    assert body["checks"]["origin"] == {"ok": True, "detail": "fine", "seconds": 0.0}
    assert set(body["checks"]) == {"origin", "disk", "room"}


def test_not_ready() -> None:
    """A node with a check that is not passed says so by its status, and why."""

    async def failed() -> str:
        raise NotReady("gone fishing")

    site = Site(checks={"origin": failed})
    response, body = site.ask("GET", "/cache/ready")
    assert (response.code, body["ready"]) == (503, False)
    assert body["checks"]["origin"]["detail"] == "gone fishing"


def test_metrics(site: Site) -> None:
    """The measurements come in the form that is asked for."""
    response = result(site.treq.get("http://localhost/metrics", headers={"Accept": "text/plain;q=0.5"}))
    assert response.headers.getRawHeaders("Content-Type") == ["text/plain"]
    assert result(response.content()) == b"text/plain;q=0.5"


# -- any request ---------------------------------------------------------------------------------


def test_head(site: Site) -> None:
    """HEAD is GET without the body."""
    for path in ("/cache", "/cache/images", "/cache/images/6f1c", "/cache/openapi.json"):
        response, body = site.ask("HEAD", path)
        assert (response.code, body) == (200, None)


def test_methods(site: Site) -> None:
    """Another method is refused together with those there are."""
    for path, allow in (
        ("/cache", "GET, HEAD"),
        ("/cache/images", "DELETE, GET, HEAD"),
        ("/cache/images/6f1c", "DELETE, GET, HEAD"),
        ("/cache/images/6f1c/pin", "DELETE, PUT"),
        ("/cache/prune", "POST"),
    ):
        for method in ("PATCH", "OPTIONS", "BREW"):
            response, _ = site.refused(405, "Method Not Allowed", method, path)
            assert response.headers.getRawHeaders("Allow") == [allow]


def test_acceptable(site: Site) -> None:
    """Who takes no JSON gets none, and is told so in JSON, for want of anything else."""
    site.refused(406, "Not Acceptable", "GET", "/cache/images", Accept="text/html")
    site.refused(406, "Not Acceptable", "GET", "/cache/images", Accept="application/json;q=0, text/*")
    assert site.got("/cache/images", Accept="text/html, */*;q=0.1")


def test_unknown_paths(site: Site) -> None:
    """What is not there is not found, in JSON like the rest."""
    for path in ("/", "/cache/nope", "/cache/images/6f1c/more", "/v2/images"):
        site.refused(404, "Not Found", "GET", path)
    site.refused(400, "Bad Request", "GET", "/cache/images/%ff")


def test_slashes(site: Site) -> None:
    """Needless slashes are answered with the right address."""
    response = result(site.treq.get("http://localhost:9394/cache//images", allow_redirects=False))
    assert response.code == 308
    assert response.headers.getRawHeaders("Location") == ["http://localhost:9394/cache/images"]


def test_encoded_id(site: Site) -> None:
    """An id is decoded once."""
    site.refused(404, "Not Found", "GET", "/cache/images/6f%2531c")
    assert site.got("/cache/images/%36f1c")["id"] == "6f1c"


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
