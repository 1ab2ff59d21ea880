"""Jobs on a real cache in front of an origin: prefetching, and verifying again."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.unit.proxy.site import Rig
from tests.unit.scripted import eventually
from txglancecache.cache.chores import Chores
from txglancecache.cache.jobs import Jobs, JobSettings
from txglancecache.cache.status import JobKind, JobState, JobStatus
from txglancecache.headers import RawHeaders
from txglancecache.origin.glance import Glance

BODY = os.urandom(2_500_000)
ALICE = [(b"X-Auth-Token", b"alice")]


@define(eq=False)
class Desk:
    rig: Rig
    own: RawHeaders | None = None
    jobs: Jobs = field(init=False)

    def __attrs_post_init__(self) -> None:
        rig = self.rig
        glance = Glance(rig.client, reactor)
        chores = Chores(rig.cache, rig.steward, glance, rig.client, self._credentials)
        self.jobs = Jobs(chores, rig.index, rig.cache.events, reactor, JobSettings(attempts=2), time.time)
        self.jobs.start()

    async def _credentials(self) -> RawHeaders | None:
        return self.own

    async def over(self, job: JobStatus) -> JobStatus:
        """The job when it has come to its end."""
        await eventually(lambda: self.now(job).state.over)
        return self.now(job)

    def now(self, job: JobStatus) -> JobStatus:
        found = self.jobs.job(job.id)
        assert found is not None
        return found

    def fetch(self, image_id: str, headers: RawHeaders | None = ALICE) -> JobStatus:
        (job,) = self.jobs.submit(JobKind.PREFETCH, [image_id], headers=headers)
        return job


@pytest_twisted.async_yield_fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    rig = Rig(tmp_path / "cache")
    rig.store("one", BODY)
    desk = Desk(rig)
    yield desk
    await desk.jobs.stop()
    await rig.stop()


async def _under_way(desk: Desk) -> JobStatus:
    """A prefetch that has begun, and waits for an origin that sends nothing."""
    desk.rig.origin.slow = Deferred()
    job = desk.fetch("one")
    await eventually(lambda: len(desk.rig.origin.transfers()) == 1)
    return job


@pytest_twisted.ensureDeferred
async def test_a_prefetched_image_is_a_hit(desk: Desk) -> None:
    """The first download takes no byte from the origin."""
    job = await desk.over(desk.fetch("one"))
    assert (job.state, job.size, job.done, job.error) == (JobState.DONE, len(BODY), len(BODY), None)
    got = await desk.rig.get("one")
    assert (got.body, got.headers["cache-status"]) == (BODY, "node; hit")
    assert desk.rig.origin.transfers() == [None]
    again = desk.fetch("one")
    assert again.state is JobState.DONE
    assert desk.rig.origin.transfers() == [None]


@pytest_twisted.ensureDeferred
async def test_a_prefetch_and_a_miss_are_one_transfer(desk: Desk) -> None:
    """Whoever comes second joins the first."""
    job = await _under_way(desk)
    download = desk.rig.get("one")
    await eventually(lambda: len(desk.rig.cache.find("one").readers) == 2)  # type: ignore[union-attr]
    desk.rig.origin.slow.callback(None)
    assert (await download).body == BODY
    assert (await desk.over(job)).state is JobState.DONE
    assert desk.rig.origin.transfers() == [None]


@pytest_twisted.ensureDeferred
async def test_the_nodes_own_account_serves_when_nobody_elses_is_known(desk: Desk) -> None:
    """As after a restart; without one the job says what is missing."""
    desk.own = ALICE
    assert (await desk.over(desk.fetch("one", headers=None))).state is JobState.DONE


@pytest_twisted.ensureDeferred
async def test_the_nodes_own_account_serves_once_a_token_has_expired(desk: Desk) -> None:
    """A queue may be longer than a token lives; without an account the job says what is missing."""
    desk.rig.origin.expired |= {"old"}
    old = [(b"X-Auth-Token", b"old")]
    failed = await desk.over(desk.fetch("one", headers=old))
    assert (failed.state, failed.attempts) == (JobState.FAILED, 1)
    assert "have expired, and [service_auth] names none" in (failed.error or "")
    desk.own = ALICE
    assert (await desk.over(desk.fetch("one", headers=old))).state is JobState.DONE


@pytest_twisted.ensureDeferred
async def test_the_nodes_own_account_gets_nobody_more(desk: Desk) -> None:
    """What the origin does not let a client have is not fetched in the node's name; nor is a token of the
    node that is refused tried again."""
    desk.own = ALICE
    foreign = await desk.over(desk.fetch("one", headers=[(b"X-Auth-Token", b"mallory")]))
    assert (foreign.state, foreign.error) == (JobState.FAILED, "the origin answered 404")
    desk.rig.origin.expired |= {"alice"}
    for headers, requests in ((ALICE, 2), (None, 1)):
        desk.rig.origin.asked.clear()
        refused = await desk.over(desk.fetch("one", headers=headers))
        assert (refused.state, refused.error) == (JobState.FAILED, "the origin answered 401")
        assert len(desk.rig.origin.asked) == requests


@pytest_twisted.ensureDeferred
async def test_what_the_origin_refuses_fails_with_its_answer(desk: Desk) -> None:
    """An image that is unknown, not visible or not active is no job to try again."""
    desk.rig.store("queued", BODY, status="queued")
    unknown = await desk.over(desk.fetch("two"))
    assert (unknown.state, unknown.error, unknown.attempts) == (
        JobState.FAILED,
        "the origin answered 404",
        1,
    )
    foreign = await desk.over(desk.fetch("one", headers=[(b"X-Auth-Token", b"mallory")]))
    assert foreign.error == "the origin answered 404"
    idle = await desk.over(desk.fetch("queued"))
    assert idle.error == "the image cannot be cached: not active"
    strange = await desk.over(desk.fetch("../one"))
    assert strange.error == "this is no image id"


@pytest_twisted.ensureDeferred
async def test_a_cancelled_prefetch_stops_its_transfer(desk: Desk) -> None:
    """Unless somebody downloads the image."""
    job = await _under_way(desk)
    assert desk.jobs.cancel(job.id)
    # Not a byte had come: an entry without one is of use to nobody.
    await eventually(lambda: desk.rig.cache.find("one") is None)
    assert desk.now(job).state is JobState.CANCELLED
    desk.rig.origin.slow = None
    assert (await desk.rig.get("one")).body == BODY


@pytest_twisted.ensureDeferred
async def test_emptying_the_cache_leaves_the_queue(desk: Desk) -> None:
    """What was under way goes back to where it waits, and is fetched anew."""
    job = await _under_way(desk)
    assert await desk.rig.steward.purge_all() == 1
    await eventually(lambda: desk.now(job).state is JobState.QUEUED)
    slow, desk.rig.origin.slow = desk.rig.origin.slow, None
    slow.callback(None)
    assert (await desk.over(job)).state is JobState.DONE


@pytest_twisted.ensureDeferred
async def test_a_purge_ends_the_prefetch(desk: Desk) -> None:
    """The transfer stops, and the job says why there is nothing in the cache."""
    job = await _under_way(desk)
    assert await desk.rig.steward.purge("one")
    failed = await desk.over(job)
    assert (failed.state, failed.error) == (JobState.FAILED, "the image was purged meanwhile")
    await eventually(lambda: desk.rig.cache.roster.leaving == [])
    fills, reserved = desk.rig.cache.roster.fills, desk.rig.steward.status().reserved
    assert (fills, reserved) == (set(), 0)


@pytest_twisted.ensureDeferred
async def test_a_purge_ends_the_prefetch_and_not_the_download(desk: Desk) -> None:
    """Who downloads the image gets it to the end."""
    job = await _under_way(desk)
    download = desk.rig.get("one")
    await eventually(lambda: len(desk.rig.cache.find("one").readers) == 2)  # type: ignore[union-attr]
    assert await desk.rig.steward.purge("one")
    assert (await desk.over(job)).state is JobState.FAILED
    desk.rig.origin.slow.callback(None)
    body = (await download).body
    right = body == BODY
    assert right
    assert desk.rig.origin.transfers() == [None]


@pytest_twisted.ensureDeferred
async def test_what_was_dropped_is_not_done(desk: Desk) -> None:
    """An image that left for what had befallen its file is fetched again."""
    job = await _under_way(desk)
    entry = desk.rig.cache.find("one")
    assert entry is not None
    desk.rig.cache.drop(entry, "the disk failed")
    desk.rig.origin.slow.callback(None)
    await eventually(lambda: desk.now(job).error is not None)
    again = desk.now(job)
    assert (again.state, again.error) == (JobState.QUEUED, "the image was dropped meanwhile")


@pytest_twisted.ensureDeferred
async def test_verifying_finds_what_has_been_altered(desk: Desk) -> None:
    """A body that is still right stays; one that was changed on disk goes into quarantine."""
    await desk.over(desk.fetch("one"))
    (job,) = desk.jobs.submit(JobKind.VERIFY, ["one"])
    done = await desk.over(job)
    assert (done.state, done.done) == (JobState.DONE, len(BODY))
    entry = desk.rig.cache.find("one")
    assert entry is not None
    path = desk.rig.path / "bodies" / entry.body.name[:2] / entry.body.name
    with open(path, "r+b") as file:  # noqa: ASYNC230
        file.seek(1_000_000)
        file.write(b"altered")
    (job,) = desk.jobs.submit(JobKind.VERIFY, ["one"])
    failed = await desk.over(job)
    assert failed.state is JobState.FAILED
    assert "sha256 is" in (failed.error or "")
    assert desk.rig.cache.find("one") is None
    # The job is over before the file has been moved.
    await eventually(lambda: bool(os.listdir(desk.rig.path / "quarantine")))
    (kept,) = await desk.rig.steward.quarantined()
    assert (kept.image_id, kept.size) == ("one", len(BODY))
    assert (await desk.rig.steward.clear_quarantine()).files == 1
    assert await desk.rig.steward.quarantined() == []
    assert (await desk.rig.get("one")).body == BODY


@pytest_twisted.ensureDeferred
async def test_pins_prunes_and_purges(desk: Desk) -> None:
    """A pinned image outlives a prune to nothing; an incomplete one that nobody reads is cleaned away."""
    for name in ("one", "two", "three"):
        desk.rig.store(name, BODY)
        await desk.over(desk.fetch(name))
    steward = desk.rig.steward
    assert steward.pin("two")
    assert not steward.pin("nobody")
    freed = await steward.prune(0)
    assert (freed.files, freed.bytes) == (2, 2 * len(BODY))
    assert [entry.image_id for entry in steward.entries()] == ["two"]
    desk.rig.store("part", BODY)
    await desk.rig.get("part", range="bytes=0-9")
    await eventually(lambda: desk.rig.cache.find("part").idle)  # type: ignore[union-attr]
    stray = desk.rig.path / "bodies" / "zz" / "zz-stray"
    stray.parent.mkdir()
    stray.write_bytes(b"x" * 10_000)
    assert (await steward.clean()).files == 2
    assert not stray.exists()
    assert [entry.image_id for entry in steward.entries()] == ["two"]
    assert await steward.purge_many(["two", "nobody"]) == 1
    assert steward.status().bytes_on_disk == 0
