"""Glance's cache API as its tools know it."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.logger import capturedLogs

from tests.unit.management.compatible.world import CACHED as ENTRY
from tests.unit.management.compatible.world import Site
from txglancecache.cache.status import JobKind, JobState
from txglancecache.errors import OriginTimeout, OriginUnreachable, StoreUnusable

CACHED = {
    "image_id": "c1",
    "hits": 3,
    "last_accessed": 1700000001.5,
    "last_modified": 1700000000.5,
    "size": 1000,
}


@pytest.fixture
def site() -> Site:
    return Site()


def test_list(site: Site) -> None:
    """The images that are here whole, with times as numbers, and the ids of those that will be."""
    site.jobs.add("q1")
    site.jobs.add("q2", JobState.RUNNING)
    site.jobs.add("q3", JobState.FAILED)
    site.jobs.add("c1", kind=JobKind.VERIFY)
    assert site.json("GET", "/v2/cache") == {"cached_images": [CACHED], "queued_images": ["q1", "q2"]}


def test_never_accessed(site: Site) -> None:
    """An image that was never asked for has 0, which tools show as N/A."""
    site.cache.images = {"c1": evolve(ENTRY, last_access=0.0)}
    assert site.json("GET", "/v2/cache")["cached_images"][0]["last_accessed"] == 0


@pytest.mark.parametrize("path", ["/v2.14/cache", "/v2.18/cache", "/v2.0/cache"])
def test_minor_versions(site: Site, path: str) -> None:
    """Every minor version of a path is the same path."""
    assert site.json("GET", path) == {"cached_images": [CACHED], "queued_images": []}


class TestQueue:
    """`PUT /v2/cache/{id}`."""

    def test_active(self, site: Site) -> None:
        """An active image is queued, to be fetched with the caller's token."""
        site.origin.has("a1")
        assert site.status("PUT", "/v2/cache/a1", Content_Type="application/octet-stream") == 202
        assert site.jobs.states() == {"a1": JobState.QUEUED}
        assert site.jobs.headers == {"a1": ((b"X-Auth-Token", b"secret"),)}
        assert site.origin.paths() == ["/v2/images/a1"]

    def test_unknown(self, site: Site) -> None:
        """An image that Glance does not show the caller is not queued."""
        response, body = site.ask("PUT", "/v2/cache/nope")
        assert (response.code, body) == (404, b"404 Not Found\n\nImage nope not found.\n")
        assert not site.jobs.all

    @pytest.mark.parametrize("status", ["queued", "saving", "deactivated"])
    def test_not_active(self, site: Site, status: str) -> None:
        """Nor is one that has no data to be had."""
        site.origin.has("a1", status)
        response, body = site.ask("PUT", "/v2/cache/a1")
        assert response.code == 400
        assert b"Only images with status active can be targeted for queueing" in body
        assert not site.jobs.all

    def test_wrong_token(self, site: Site) -> None:
        """What Glance says to a token that it does not take goes to the caller as it is."""
        response, body = site.ask("PUT", "/v2/cache/a1", token="stolen")
        assert (response.code, body) == (401, b"<html>who?</html>")
        assert response.headers.getRawHeaders("WWW-Authenticate") == ['Keystone uri="http://keystone"']
        assert not site.jobs.all

    def test_no_token(self, site: Site) -> None:
        """Whoever was let in without a token queues it, for the service to fetch if that may."""
        assert site.status("PUT", "/v2/cache/a1", token=None) == 202
        assert site.jobs.headers == {"a1": None}

    def test_no_glance(self, site: Site) -> None:
        """Without Glance's word nothing is queued."""
        for trouble, code in ((OriginUnreachable("refused"), 502), (OriginTimeout("silent"), 504)):
            site.origin.trouble = trouble
            assert site.ask("PUT", "/v2/cache/a1")[0].code == code
        assert not site.jobs.all

    @pytest.mark.parametrize("odd", ["a%3Fb", "a%23b", "a%20b", "..", "%C3%BC", "a%2525b"])
    def test_odd_id(self, site: Site, odd: str) -> None:
        """What cannot be an id is an image that nobody knows, and nobody is asked."""
        assert site.ask("PUT", f"/v2/cache/{odd}")[0].code == 404
        assert not site.origin.asked


class TestDelete:
    """`DELETE /v2/cache/{id}`."""

    def test_cached(self, site: Site) -> None:
        """An image leaves the cache, and Glance need not know it any more."""
        assert site.status("DELETE", "/v2/cache/c1") == 204
        assert "c1" not in site.cache.images
        assert not site.origin.asked

    def test_queued(self, site: Site) -> None:
        """And the queue, waiting or on its way."""
        site.jobs.add("q1")
        site.jobs.add("q1", JobState.RUNNING)
        site.jobs.add("q2")
        assert site.status("DELETE", "/v2/cache/q1") == 204
        assert site.jobs.states() == {"q1": JobState.CANCELLED, "q2": JobState.QUEUED}

    def test_elsewhere(self, site: Site) -> None:
        """What exists and is neither here nor queued is as good as deleted."""
        site.origin.has("a1", "queued")
        assert site.status("DELETE", "/v2/cache/a1") == 204

    def test_unknown(self, site: Site) -> None:
        """What nobody knows is not found."""
        response, body = site.ask("DELETE", "/v2/cache/nope")
        assert (response.code, body) == (404, b"404 Not Found\n\nImage nope not found.\n")


class TestClear:
    """`DELETE /v2/cache`."""

    @pytest.mark.parametrize("target", [None, "", "both", "BOTH", " both "])
    def test_both(self, site: Site, target: str | None) -> None:
        """Cache and queue, unless it is said which."""
        site.jobs.add("q1")
        fields = {} if target is None else {"x_image_cache_clear_target": target}
        assert site.status("DELETE", "/v2/cache", **fields) == 204
        assert (site.cache.images, site.jobs.states()) == ({}, {"q1": JobState.CANCELLED})

    @pytest.mark.parametrize("target", ["cache", "Cache"])
    def test_cache(self, site: Site, target: str) -> None:
        """The cache only."""
        site.jobs.add("q1")
        assert site.status("DELETE", "/v2/cache", x_image_cache_clear_target=target) == 204
        assert (site.cache.images, site.jobs.states()) == ({}, {"q1": JobState.QUEUED})

    @pytest.mark.parametrize("target", ["queue", "QUEUE"])
    def test_queue(self, site: Site, target: str) -> None:
        """The queue only."""
        site.jobs.add("q1")
        assert site.status("DELETE", "/v2/cache", x_image_cache_clear_target=target) == 204
        assert (len(site.cache.images), site.jobs.states()) == (2, {"q1": JobState.CANCELLED})

    def test_neither(self, site: Site) -> None:
        """Anything else is a mistake, and nothing is lost by it."""
        response, body = site.ask("DELETE", "/v2/cache", x_image_cache_clear_target="disk")
        assert response.code == 400
        assert b"x-image-cache-clear-target" in body
        assert len(site.cache.images) == 2


def test_clean(site: Site) -> None:
    """`POST /v2/cache/clean` removes what is abandoned and says nothing."""
    assert site.status("POST", "/v2/cache/clean") == 200
    assert site.cache.cleaned == 1


def test_prune(site: Site) -> None:
    """`POST /v2/cache/prune` makes the limits hold and says what that took."""
    assert site.json("POST", "/v2/cache/prune") == {"total_files_pruned": 2, "total_bytes_pruned": 700}
    assert site.cache.pruned == [None]


class TestNodes:
    """`GET /v2/cache/nodes/{id}`."""

    def test_here(self, site: Site) -> None:
        """An image that is here is on this node, by the name that the caller has for it."""
        assert site.json("GET", "/v2/cache/nodes/c1", Host="cache1:9394") == ["http://cache1:9394"]

    def test_elsewhere(self, site: Site) -> None:
        """One that is not, or not whole, is on none that this node knows of."""
        for image_id in ("a1", "p1"):
            site.origin.has(image_id)
            assert site.json("GET", f"/v2/cache/nodes/{image_id}") == []

    def test_unknown(self, site: Site) -> None:
        """One that Glance does not know is not found."""
        response, body = site.ask("GET", "/v2/cache/nodes/nope")
        assert (response.code, body) == (404, b"404 Not Found\n\nImage nope not found.\n")


@pytest.mark.parametrize("prefix", ["/v1", "/v2", "/v2.3"])
class TestBefore:
    """`/v2/cached_images` and `/v2/queued_images`, and the same two under `/v1`."""

    def test_list(self, site: Site, prefix: str) -> None:
        """Each list by itself."""
        site.jobs.add("q1")
        assert site.json("GET", f"{prefix}/cached_images") == {"cached_images": [CACHED]}
        assert site.json("GET", f"{prefix}/queued_images") == {"queued_images": ["q1"]}

    def test_delete_one(self, site: Site, prefix: str) -> None:
        """Deleting says nothing of whether it was there, in JSON."""
        site.jobs.add("q1")
        for path in ("cached_images/c1", "cached_images/c1", "queued_images/q1", "queued_images/nope"):
            assert site.json("DELETE", f"{prefix}/{path}") is None
        assert set(site.cache.images) == {"p1"}
        assert site.jobs.states() == {"q1": JobState.CANCELLED}

    def test_delete_all(self, site: Site, prefix: str) -> None:
        """How many there were is told."""
        site.jobs.add("q1")
        site.jobs.add("q2", JobState.DONE)
        assert site.json("DELETE", f"{prefix}/queued_images") == {"num_deleted": 1}
        assert len(site.cache.images) == 2
        assert site.json("DELETE", f"{prefix}/cached_images") == {"num_deleted": 2}
        assert site.cache.images == {}

    def test_queue(self, site: Site, prefix: str) -> None:
        """Queueing asks nobody whether the image exists; the job will find out."""
        assert site.json("PUT", f"{prefix}/queued_images/a1") is None
        assert site.jobs.headers == {"a1": ((b"X-Auth-Token", b"secret"),)}
        assert not site.origin.asked


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v2/cache", {"DELETE", "GET", "HEAD"}),
        ("/v2/cache/c1", {"DELETE", "PUT"}),
        ("/v2/cache/nodes/c1", {"GET", "HEAD"}),
        ("/v2/cached_images", {"DELETE", "GET", "HEAD"}),
        ("/v1/cached_images/c1", {"DELETE"}),
        ("/v2/queued_images", {"DELETE", "GET", "HEAD"}),
        ("/v1/queued_images/c1", {"DELETE", "PUT"}),
        ("/versions", {"GET", "HEAD"}),
        ("/v2/images", {"GET", "HEAD"}),
        ("/v2/images/a1", {"GET", "HEAD"}),
    ],
)
def test_methods(site: Site, path: str, allow: set[str]) -> None:
    """Other methods are refused, with those that there are."""
    response, body = site.ask("PATCH", path)
    assert (response.code, body.splitlines()[0]) == (405, b"405 Method Not Allowed")
    assert set(response.headers.getRawHeaders("Allow")[0].split(", ")) == allow
    assert not site.origin.asked


@pytest.mark.parametrize("path", ["/v2/cache/clean", "/v2/cache/prune"])
def test_post_only(site: Site, path: str) -> None:
    """What is done by POST is not done by GET."""
    response, _ = site.ask("GET", path)
    assert response.code == 405
    assert "POST" in response.headers.getRawHeaders("Allow")[0]
    assert (site.cache.cleaned, site.cache.pruned) == (0, [])


@pytest.mark.parametrize(
    "path",
    [
        "/v2/cache/",
        "/v2/cache/c1/",
        "/v2//cache",
        "/v2/cache//c1",
        "/v1/cache",
        "/v2/tasks",
        "/v3/",
        "/v2/images/a1/file",
        "/v2/images/a1/%66ile",
    ],
)
def test_not_here(site: Site, path: str) -> None:
    """Nothing else is here, image data least of all."""
    response, body = site.ask("GET", path)
    assert (response.code, body) == (404, b"404 Not Found\n\nThe resource could not be found.\n")
    assert not site.origin.asked


def test_head(site: Site) -> None:
    """HEAD is GET without the body."""
    assert site.status("HEAD", "/v2/cache") == 200


def test_error_pages(site: Site) -> None:
    """An error comes in the kind that its reader asks for, as Glance's do; ids do not become markup."""
    kinds: dict[str, Any] = {}
    for accept in ("*/*", "application/json", "text/plain"):
        response, body = site.ask("PUT", "/v2/cache/%3Cb%3E", Accept=accept)
        assert response.length == len(body)
        kinds[accept] = (response.headers.getRawHeaders("Content-Type"), body)
    assert kinds["*/*"][0] == ["text/html; charset=UTF-8"]
    assert b"Image &lt;b&gt; not found." in kinds["*/*"][1]
    assert kinds["application/json"][0] == ["application/json"]
    assert kinds["text/plain"][0] == ["text/plain; charset=UTF-8"]


def test_bug(site: Site) -> None:
    """A bug is an answer too; what it was is for the log only."""
    site.cache.trouble = ZeroDivisionError("secret")
    with capturedLogs() as events:
        response, body = site.ask("GET", "/v2/cache")
    assert response.code == 500
    assert b"secret" not in body
    assert [event["log_failure"].value for event in events if "log_failure" in event] == [site.cache.trouble]


def test_disk(site: Site) -> None:
    """A disk that fails is told as what it is."""
    site.cache.trouble = StoreUnusable("/cache", "gone")
    response, body = site.ask("GET", "/v2/cache")
    assert response.code == 503
    assert b"gone" in body
