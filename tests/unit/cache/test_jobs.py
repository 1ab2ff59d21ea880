"""The queue of jobs: order, bounds, retries, restarts; and with a real cache beneath it, what jobs do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tests.unit.cache.world import Machine, result
from txglancecache.cache.events import EventLog
from txglancecache.cache.jobs import Jobs, JobSettings, Progress
from txglancecache.cache.status import JobKind, JobState
from txglancecache.errors import JobFailed, OriginUnreachable
from txglancecache.store.index import Index

FETCH = JobKind.PREFETCH


@define(eq=False)
class Hands:
    """Works when the test says so."""

    begun: list[tuple[str, Any]] = field(factory=list)
    open: dict[str, Deferred[None]] = field(factory=dict)
    progress: dict[str, Progress] = field(factory=dict)
    complete: set[str] = field(factory=set)
    cancelled: list[str] = field(factory=list)
    impossible: bool = False
    breaks: bool = False

    def needed(self, kind: JobKind, image_id: str) -> bool:
        return image_id not in self.complete

    async def do(self, kind: JobKind, image_id: str, headers: Any, progress: Progress) -> None:
        self.begun.append((image_id, headers))
        if self.impossible:
            raise JobFailed("not to be had")
        self.progress[image_id] = progress
        self.open[image_id] = Deferred()
        try:
            await self.open[image_id]
        except CancelledError:
            self.cancelled.append(image_id)
            if self.breaks:
                raise OriginUnreachable("broken") from None
            raise


@define(eq=False)
class Office:
    path: Path
    concurrency: int = 2
    hands: Hands = field(factory=Hands)
    clock: Clock = field(factory=Clock)
    index: Index = field(init=False)
    jobs: Jobs = field(init=False)
    events: EventLog = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.index = Index(self.path, self.clock, Machine().run)
        self.index.load()
        self.events = EventLog(self.clock.seconds)
        settings = JobSettings(self.concurrency, attempts=3)
        self.jobs = Jobs(self.hands, self.index, self.events, self.clock, settings, self.clock.seconds)
        self.jobs.load()
        self.jobs.start()

    def states(self) -> dict[str, JobState]:
        return {job.image_id: job.state for job in self.jobs.jobs()}

    def running(self) -> list[str]:
        return [job.image_id for job in self.jobs.jobs(state=JobState.RUNNING)]

    def restart(self) -> Office:
        result(self.jobs.stop())
        result(self.index.close())
        return Office(self.path, self.concurrency)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "index.sqlite")


def test_so_many_at_once_in_order_of_priority(office: Office) -> None:
    """The rest waits; the most important and then the oldest comes next."""
    office.jobs.submit(FETCH, ["a", "b", "c"])
    office.jobs.submit(FETCH, ["d"], priority=5)
    assert office.running() == ["a", "b"]
    office.hands.open["a"].callback(None)
    assert office.running() == ["b", "d"]
    office.hands.open["b"].callback(None)
    office.hands.open["d"].callback(None)
    assert office.running() == ["c"]


def test_one_job_for_one_image(office: Office) -> None:
    """Asking again changes nothing but the priority; after the end it is a new job."""
    office.jobs.submit(FETCH, ["x", "y"])
    (first,) = office.jobs.submit(FETCH, ["a"])
    (second,) = office.jobs.submit(FETCH, ["a", "a"], priority=3)
    assert (second.id, second.priority) == (first.id, 3)
    office.hands.open["x"].callback(None)
    office.hands.open["a"].callback(None)
    (third,) = office.jobs.submit(FETCH, ["a"])
    assert third.id != first.id


def test_what_is_there_is_not_fetched_again(office: Office) -> None:
    """A complete image makes a job that is over at once."""
    office.hands.complete.add("a")
    (job,) = office.jobs.submit(FETCH, ["a"])
    assert job.state is JobState.DONE
    assert office.hands.begun == []


def test_what_breaks_is_tried_again_and_stops_nobody(office: Office) -> None:
    """After a while, and then a longer one, so many times in all; others go on meanwhile."""
    office.jobs.submit(FETCH, ["a", "b", "c"])
    for delay in (2, 4):
        office.hands.open["a"].errback(OriginUnreachable("refused"))
        job = office.jobs.job(1)
        assert job
        assert (job.state, job.error) == (JobState.QUEUED, "refused")
        assert job.next_try == office.clock.seconds() + delay
        assert "c" in office.running()
        office.hands.open["c" if delay == 4 else "b"].callback(None)
        office.clock.advance(delay)
        assert "a" in office.running()
    office.hands.open["a"].errback(OriginUnreachable("refused"))
    assert office.states() == {"a": JobState.FAILED, "b": JobState.DONE, "c": JobState.DONE}


def test_what_cannot_be_done_is_not_tried_again(office: Office) -> None:
    """Its error says why."""
    office.jobs.submit(FETCH, ["a"])
    office.hands.open["a"].errback(JobFailed("the origin answered 404"))
    (job,) = office.jobs.jobs()
    assert (job.state, job.error, job.attempts) == (JobState.FAILED, "the origin answered 404", 1)


def test_many_that_are_over_at_once(office: Office) -> None:
    """They are all done, each once, and others have their turn in between."""

    office.hands.impossible = True
    names = [f"image-{number}" for number in range(250)]
    office.jobs.submit(JobKind.VERIFY, names)
    assert office.jobs.count(state=JobState.QUEUED) == 150
    office.clock.advance(0)
    assert office.jobs.count(state=JobState.QUEUED) == 0
    assert [name for name, _ in office.hands.begun] == names


def test_pages(office: Office) -> None:
    """The jobs come in pages, and are counted, by state and kind."""
    office.jobs.submit(FETCH, ["a", "b", "c", "d"])
    office.jobs.submit(JobKind.VERIFY, ["e"])
    assert [job.image_id for job in office.jobs.jobs(limit=2)] == ["a", "b"]
    assert [job.image_id for job in office.jobs.jobs(after=2, limit=2)] == ["c", "d"]
    assert [job.image_id for job in office.jobs.jobs(after=2, kind=JobKind.VERIFY)] == ["e"]
    assert office.jobs.count() == 5
    assert office.jobs.count(state=JobState.RUNNING) == 2
    assert office.jobs.count(kind=FETCH, state=JobState.QUEUED) == 2


def test_a_raised_priority_counts(office: Office) -> None:
    """A job that waits and is asked for again with a higher priority comes before the others."""
    office.jobs.submit(FETCH, ["a", "b", "c", "d"])
    office.jobs.submit(FETCH, ["d"], priority=1)
    office.hands.open["a"].callback(None)
    assert office.running() == ["b", "d"]
    office.hands.open["d"].callback(None)
    office.hands.open["b"].callback(None)
    assert office.running() == ["c"]
    office.hands.open["c"].callback(None)
    assert [name for name, _ in office.hands.begun] == ["a", "b", "d", "c"]


def test_a_bug_in_the_work_ends_the_job_only(office: Office) -> None:
    """The queue goes on."""
    office.jobs.submit(FETCH, ["a", "b", "c"])
    office.hands.open["a"].errback(ZeroDivisionError())
    assert office.states()["a"] is JobState.FAILED
    assert office.running() == ["b", "c"]


def test_a_job_can_be_cancelled_at_any_time(office: Office) -> None:
    """While it waits, and while it is done; after that there is nothing to cancel."""
    jobs = office.jobs.submit(FETCH, ["a", "b", "c", "d"])
    assert office.jobs.cancel(jobs[2].id)
    assert office.jobs.cancel(jobs[0].id)
    assert office.hands.cancelled == ["a"]
    assert not office.jobs.cancel(jobs[0].id)
    assert not office.jobs.cancel(999)
    assert office.running() == ["b", "d"]
    office.jobs.submit(FETCH, ["e", "f"])
    assert office.jobs.cancel_image(FETCH, "e")
    assert not office.jobs.cancel_image(FETCH, "e")
    assert result(office.jobs.cancel_all(queued_only=True)) == 1
    assert office.running() == ["b", "d"]


def test_all_of_one_kind_can_be_cancelled(office: Office) -> None:
    """What waits and what is under way; nothing else, and nothing begins meanwhile."""
    office.jobs.submit(JobKind.VERIFY, ["v"])
    office.jobs.submit(FETCH, [str(number) for number in range(1000)])
    assert office.jobs.unfinished(FETCH) == [str(number) for number in range(1000)]
    assert result(office.jobs.cancel_all(kind=FETCH)) == 1000
    assert office.jobs.unfinished(FETCH) == []
    assert office.running() == ["v"]
    assert [image_id for image_id, _ in office.hands.begun] == ["v", "0"]


def test_one_that_is_cancelled_while_it_breaks(office: Office) -> None:
    """Is over all the same."""
    office.hands.breaks = True
    (job,) = office.jobs.submit(FETCH, ["a"])
    assert office.jobs.cancel(job.id)
    assert office.states() == {"a": JobState.CANCELLED}
    office.clock.advance(1000)
    assert len(office.hands.begun) == 1


def test_a_retry_that_is_due_waits_for_its_turn(office: Office) -> None:
    """Without keeping the reactor busy meanwhile."""
    office.jobs.submit(FETCH, ["a", "b", "c"])
    office.hands.open["a"].errback(OriginUnreachable("refused"))
    assert office.running() == ["b", "c"]
    office.clock.rightNow += 10
    for call in office.clock.getDelayedCalls():
        function = call.func
        call.cancel()
        function()
    assert all(call.getTime() > office.clock.seconds() for call in office.clock.getDelayedCalls())
    office.hands.open["b"].callback(None)
    assert office.running() == ["a", "c"]


def test_a_restart_takes_up_what_was_left(office: Office) -> None:
    """Queued and running jobs begin anew, over ones are remembered, credentials are not."""
    office.jobs.submit(FETCH, ["a", "b", "c"], headers=[(b"X-Auth-Token", b"secret")])
    office.hands.open["a"].callback(None)
    assert office.hands.begun[0] == ("a", [(b"X-Auth-Token", b"secret")])
    office.clock.advance(1)
    office = office.restart()
    assert office.states() == {"a": JobState.DONE, "b": JobState.RUNNING, "c": JobState.RUNNING}
    assert office.hands.begun == [("b", None), ("c", None)]
    (job,) = office.jobs.submit(FETCH, ["new"])
    assert job.id == 4
    result(office.jobs.stop())
    result(office.index.close())
    assert b"secret" not in office.path.read_bytes()


def over_at_once(office: Office, begin: int, end: int) -> None:
    """Jobs that are over when they are asked for."""
    names = [str(number) for number in range(begin, end)]
    office.hands.complete.update(names)
    office.jobs.submit(FETCH, names)


def test_history_is_bounded(office: Office) -> None:
    """The oldest jobs that are over are listed no more, nor counted."""
    over_at_once(office, 0, 300)
    assert next(job.image_id for job in office.jobs.jobs()) == "100"
    assert office.jobs.count() == 200
    office.clock.advance(1)
    assert len(office.restart().jobs.jobs()) == 200


def test_what_is_over_is_remembered_for_a_while(office: Office) -> None:
    """Whoever looks seldom learns how each of a thousand jobs ended, also after a restart."""
    office.hands.impossible = True
    office.jobs.submit(JobKind.VERIFY, ["a"])
    over_at_once(office, 0, 1000)
    for _ in range(2):
        found = [office.jobs.job(number) for number in range(1, 1002)]
        assert [job.state for job in found if job] == [JobState.FAILED] + [JobState.DONE] * 1000
        assert found[0]
        assert found[0].error == "not to be had"
        assert not office.jobs.cancel(1)
        office.clock.advance(1)
        office = office.restart()


def test_what_is_over_is_forgotten_in_the_end(office: Office) -> None:
    """After ten minutes, also by the index; and at once where there are very many."""
    over_at_once(office, 0, 300)
    office.clock.advance(599)
    over_at_once(office, 300, 301)
    assert office.jobs.job(1)
    office.clock.advance(1)
    over_at_once(office, 301, 302)
    assert office.jobs.job(1) is None
    assert office.jobs.job(101)
    over_at_once(office, 302, 10_602)
    first = 10_602 - 200 - 10_000 + 1
    for _ in range(2):
        assert office.jobs.job(first - 1) is None
        assert office.jobs.job(first)
        office.clock.advance(1)
        office = office.restart()


def test_progress_has_a_rate_and_an_end(office: Office) -> None:
    """Bytes done, bytes per second, and the seconds that are left at that rate."""
    office.jobs.submit(FETCH, ["a"])
    done = 0
    office.hands.progress["a"].size, office.hands.progress["a"].done = 1000, lambda: done
    for _ in range(4):
        office.clock.advance(1)
        done += 100
        (job,) = office.jobs.jobs()
    assert (job.size, job.done) == (1000, 400)
    assert job.rate == pytest.approx(100, rel=0.5)
    assert job.eta == pytest.approx(600 / job.rate)


def test_what_happens_is_told(office: Office) -> None:
    """Each step of a job is an event."""
    office.jobs.submit(FETCH, ["a"])
    office.hands.open["a"].callback(None)
    kinds = [event.kind for event in office.events.recent()]
    assert kinds == ["job-queued", "job-started", "job-done"]


def test_jobs_are_counted(office: Office) -> None:
    """How many there are, by state and kind, at any time."""

    def counted() -> tuple[int, int, int, int]:
        jobs = office.jobs
        states = (JobState.QUEUED, JobState.RUNNING, JobState.DONE)
        return (*(jobs.count(state=state) for state in states), jobs.count())

    office.jobs.submit(FETCH, ["a", "b", "c"])
    office.jobs.submit(JobKind.VERIFY, ["a"])
    assert counted() == (2, 2, 0, 4)
    office.hands.open["a"].callback(None)
    assert counted() == (1, 2, 1, 4)
    assert office.jobs.count(kind=JobKind.VERIFY) == 1
    assert office.jobs.count(kind=FETCH, state=JobState.QUEUED) == 0
    assert result(office.jobs.cancel_all(queued_only=True)) == 1
    assert office.jobs.count(state=JobState.CANCELLED) == 1
    for _ in range(2):
        office.jobs.submit(FETCH, [f"image-{number}" for number in range(150)])
        result(office.jobs.cancel_all(queued_only=True))
    assert office.jobs.count() == len(office.jobs.jobs()) == 202
