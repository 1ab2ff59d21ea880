"""A durable queue of work that operators ask for.

What is queued, or was running when the process ended, is queued again at the next start. With whose
credentials a job is done is kept in memory only. What the work is, others know.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Any, Protocol

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txglancecache.batches import Batches
from txglancecache.cache.events import EventLog
from txglancecache.cache.meter import Meter
from txglancecache.cache.status import JobKind, JobState, JobStatus
from txglancecache.errors import EntryDropped, FillFailed, GlanceCacheError, OriginError
from txglancecache.headers import RawHeaders
from txglancecache.store.index import Index
from txglancecache.store.schema import JobRecord
from txglancecache.waiting import Outcome

_log = Logger()

#: Jobs that are over and still shown.
_HISTORY = 200
#: Seconds in which those before them are still answered for by number: who waits for very many looks seldom.
_REMEMBERED = 600.0
#: So many of them at most.
_MOST_REMEMBERED = 10_000
#: Jobs that are begun before others have their turn.
_AT_A_TIME = 100
#: Those among them that turn out to be over, or to stand elsewhere in the queue by now.
_OUTDATED_AT_A_TIME = 1000
#: Those that are forgotten whenever one ends.
_FORGOTTEN_AT_A_TIME = 100
_STATES = frozenset(state.value for state in JobState)
_KINDS = frozenset(kind.value for kind in JobKind)
_FIRST_DELAY = 2.0
_LONGEST_DELAY = 300.0


@frozen
class JobSettings:
    """How jobs are done: so many at once, each tried so often."""

    concurrency: int = 2
    attempts: int = 5


@define(eq=False)
class Progress:
    """How far the work has come; whoever does it fills this in."""

    size: int | None = None
    done: Callable[[], int] = field(default=lambda: 0)


class Worker(Protocol):
    """Does the work."""

    def needed(self, kind: JobKind, image_id: str) -> bool:
        """Whether there is anything to do."""

    def do(
        self, kind: JobKind, image_id: str, headers: RawHeaders | None, progress: Progress
    ) -> Awaitable[None]:
        """Do it; ends early, and leaves nothing behind, when cancelled.

        :raises OriginError: trying again may help; so it may after `FillFailed` and `EntryDropped`.
        :raises GlanceCacheError: it will not.
        """


@define(eq=False)
class _Job:
    record: JobRecord
    headers: RawHeaders | None = field(default=None, repr=False)
    progress: Progress = field(factory=Progress)
    running: Deferred[None] | None = None
    meter: Meter | None = None
    seen: int = 0
    next_try: float = 0.0

    @property
    def state(self) -> JobState:
        return JobState(self.record.state)


@frozen
class _Past:
    """One that is over and no longer listed; it keeps nothing alive that was worked on."""

    since: float
    record: JobRecord
    status: JobStatus


@define(eq=False)
class Jobs:
    """The queue, and the few of its jobs that are being done.

    :param wall: the time of day, in seconds since the epoch.
    """

    _worker: Worker
    _index: Index
    _events: EventLog
    _clock: IReactorTime
    _settings: JobSettings
    _wall: Callable[[], float]
    _jobs: dict[int, _Job] = field(factory=dict, init=False)
    _active: dict[tuple[str, str], _Job] = field(factory=dict, init=False)
    _counts: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    _over: deque[int] = field(factory=deque, init=False)
    _past: OrderedDict[int, _Past] = field(factory=OrderedDict, init=False)
    _ready: list[tuple[int, int]] = field(factory=list, init=False)
    _later: list[tuple[float, int]] = field(factory=list, init=False)
    _running: set[_Job] = field(factory=set, init=False)
    _last_id: int = field(default=0, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _working: bool = field(default=False, init=False)
    _pumping: bool = field(default=False, init=False)
    _cancelling: int = field(default=0, init=False)

    # -- the beginning and the end ---------------------------------------------------------------

    def load(self) -> None:
        """Take up what the index has, once it is loaded; blocks."""
        self._index.on_lost(self._put_all)
        for record in sorted(self._index.load_jobs(), key=lambda record: record.id):
            if record.state not in _STATES or record.kind not in _KINDS:
                self._index.delete_job(record.id)
                continue
            if not JobState(record.state).over:
                record = evolve(record, state=JobState.QUEUED.value, attempts=0, started=None)
            self._keep(_Job(record))
            self._last_id = max(self._last_id, record.id)
        self._forget()

    def start(self) -> None:
        """Begin to work."""
        self._working = True
        self._pump()

    async def stop(self) -> None:
        """Stop working; what was under way is queued for the next start. Returns when all is quiet."""
        self._working = False
        self._cancel_timer()
        running = [job.running for job in self._running if job.running is not None]
        for deferred in running:
            deferred.cancel()
        for deferred in running:
            await deferred

    # -- asking ----------------------------------------------------------------------------------

    def submit(
        self,
        kind: JobKind,
        image_ids: Sequence[str],
        *,
        priority: int = 0,
        headers: RawHeaders | None = None,
    ) -> list[JobStatus]:
        """Queue a job for each image; higher priorities come first.

        An image for which such a job waits or runs gets no second one: that one's priority is raised.
        What is done already is over at once.

        :param headers: the fields of the client that asks, if the origin is to be asked with these.
        """
        submitted = []
        for image_id in dict.fromkeys(image_ids):
            job = self._active.get((kind.value, image_id))
            if job is None:
                job = self._add(kind, image_id, priority)
            elif priority > job.record.priority:
                self._change(job, priority=priority)
                self._wait(job)
            if headers is not None:
                job.headers = headers
            submitted.append(job)
        self._pump()
        return [self._status(job) for job in submitted]

    def jobs(
        self,
        *,
        state: JobState | None = None,
        kind: JobKind | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[JobStatus]:
        """The jobs, the newest last; ``limit`` of them at most, after the one with the number ``after``."""
        chosen = (job for job in self._chosen(state, kind) if job.record.id > after)
        return [self._status(job) for job in islice(chosen, limit)]

    def unfinished(self, kind: JobKind) -> list[str]:
        """The images that jobs of this kind wait for or are at work on, in the order of the jobs' numbers."""
        return [image_id for has_kind, image_id in self._active if has_kind == kind.value]

    def count(self, *, state: JobState | None = None, kind: JobKind | None = None) -> int:
        """How many jobs there are."""
        return sum(
            count
            for (has_state, has_kind), count in self._counts.items()
            if state in (None, has_state) and kind in (None, has_kind)
        )

    def _chosen(self, state: JobState | None, kind: JobKind | None) -> Iterator[_Job]:
        for job in self._jobs.values():
            record = job.record
            if state in (None, record.state) and kind in (None, record.kind):
                yield job

    def job(self, job_id: int) -> JobStatus | None:
        """One job; of those that are over, also one that is no longer listed, for a while."""
        job = self._jobs.get(job_id)
        if job is not None:
            return self._status(job)
        past = self._past.get(job_id)
        return past.status if past else None

    def cancel(self, job_id: int) -> bool:
        """Do not do it, or not to the end; ``False`` if there is no such job, or it is over."""
        job = self._jobs.get(job_id)
        if job is None or job.state.over:
            return False
        self._cancel(job)
        self._pump()
        return True

    def cancel_image(self, kind: JobKind, image_id: str) -> bool:
        """Cancel the job of this kind for one image; ``False`` if there is none that is not over."""
        job = self._active.get((kind.value, image_id))
        return job is not None and self.cancel(job.record.id)

    async def cancel_all(self, *, kind: JobKind | None = None, queued_only: bool = False) -> int:
        """Cancel what waits, and what is under way unless ``queued_only``; returns how many that were.

        There may be many. Who asked for it may leave, and it is done all the same.
        """
        return await Outcome.of(Deferred.fromCoroutine(self._cancel_all(kind, queued_only))).wait()

    async def _cancel_all(self, kind: JobKind | None, queued_only: bool) -> int:
        chosen = [
            job
            for job in self._active.values()
            if kind in (None, job.record.kind) and not (queued_only and job.state is not JobState.QUEUED)
        ]
        cancelled = 0

        def cancel(jobs: list[_Job]) -> None:
            nonlocal cancelled
            left = [job for job in jobs if not job.state.over]
            cancelled += len(left)
            for job in left:
                self._cancel(job)

        # None of them is to begin now.
        self._cancelling += 1
        try:
            await Batches(self._clock).each(chosen, cancel)
        finally:
            self._cancelling -= 1
        self._pump()
        return cancelled

    def _cancel(self, job: _Job) -> None:
        self._end(job, JobState.CANCELLED)
        if job.running is not None:
            job.running.cancel()

    # -- working ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Begin what may be begun; many that are over at once do not hold the reactor up."""
        if not self._working or self._pumping or self._cancelling:
            return
        self._cancel_timer()
        self._pumping = True
        begun = 0
        try:
            while begun < _AT_A_TIME and len(self._running) < self._settings.concurrency:
                job = self._next()
                if job is None:
                    break
                begun += 1
                self._begin(job)
        finally:
            self._pumping = False
        if len(self._running) >= self._settings.concurrency:
            return  # the next one that ends looks again
        if self._ready:
            self._timer = self._clock.callLater(0, self._on_time)
        elif self._later:
            delay = max(0.0, self._later[0][0] - self._clock.seconds())
            self._timer = self._clock.callLater(delay, self._on_time)

    def _next(self) -> _Job | None:
        """The job to begin next, if one is found soon enough. Both heaps may hold what is out of date."""
        now = self._clock.seconds()
        while self._later and self._later[0][0] <= now:
            waited = self._jobs.get(heappop(self._later)[1])
            if waited is not None:
                self._wait(waited)
        for _ in range(_OUTDATED_AT_A_TIME):
            if not self._ready:
                break
            priority, job_id = heappop(self._ready)
            job = self._jobs.get(job_id)
            if (
                job is not None
                and job.state is JobState.QUEUED
                and job.running is None
                and job.record.priority == -priority
                and job.next_try <= now
            ):
                return job
        return None

    def _wait(self, job: _Job) -> None:
        """It is one of those that may be begun."""
        heappush(self._ready, (-job.record.priority, job.record.id))

    def _on_time(self) -> None:
        self._timer = None
        self._pump()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, job: _Job) -> None:
        job.progress, job.meter, job.seen = Progress(), Meter(self._clock), 0
        self._change(
            job,
            state=JobState.RUNNING.value,
            started=self._wall(),
            attempts=job.record.attempts + 1,
            error=None,
        )
        self._events.note("job-started", job.record.image_id, job.record.kind)
        work = Deferred.fromCoroutine(self._carry_out(job))
        if not work.called:
            job.running = work
            self._running.add(job)

    async def _carry_out(self, job: _Job) -> None:
        record = job.record
        try:
            await self._worker.do(JobKind(record.kind), record.image_id, job.headers, job.progress)
        except CancelledError:
            if not job.state.over:
                self._change(job, state=JobState.QUEUED.value, started=None)
                self._wait(job)
        except (OriginError, FillFailed, EntryDropped) as error:
            self._broke(job, error)
        except GlanceCacheError as error:
            self._end(job, JobState.FAILED, str(error))
        except Exception:
            _log.failure("Job {id} failed", id=record.id)
            self._end(job, JobState.FAILED, "this is a bug; the log has the details")
        else:
            self._end(job, JobState.DONE)
        finally:
            job.running = None
            self._running.discard(job)
            self._pump()

    def _broke(self, job: _Job, error: GlanceCacheError) -> None:
        if job.state.over:
            return
        attempts = job.record.attempts
        if attempts >= self._settings.attempts:
            self._end(job, JobState.FAILED, str(error))
            return
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (attempts - 1))
        job.next_try = self._clock.seconds() + delay
        heappush(self._later, (job.next_try, job.record.id))
        self._change(job, state=JobState.QUEUED.value, error=str(error))
        _log.warn(
            "Job {id} broke: {error}; again in {delay} s", id=job.record.id, error=str(error), delay=delay
        )

    # -- records ---------------------------------------------------------------------------------

    def _keep(self, job: _Job) -> None:
        self._jobs[job.record.id] = job
        self._count(job, 1)
        if job.state.over:
            self._over.append(job.record.id)
        else:
            self._active[job.record.kind, job.record.image_id] = job
            self._wait(job)

    def _add(self, kind: JobKind, image_id: str, priority: int) -> _Job:
        self._last_id += 1
        record = JobRecord(
            id=self._last_id,
            kind=kind.value,
            image_id=image_id,
            state=JobState.QUEUED.value,
            priority=priority,
            created=self._wall(),
            started=None,
            finished=None,
            attempts=0,
            error=None,
        )
        job = _Job(record)
        self._keep(job)
        self._index.put_job(record)
        self._events.note("job-queued", image_id, kind.value)
        if not self._worker.needed(kind, image_id):
            self._end(job, JobState.DONE)
        return job

    async def _put_all(self) -> None:
        """Tell the index of every job."""

        def put(jobs: list[_Past | _Job]) -> None:
            for job in jobs:
                if job.record.id in self._jobs or job.record.id in self._past:
                    self._index.put_job(job.record)

        every: list[_Past | _Job] = [*self._past.values(), *self._jobs.values()]
        await Batches(self._clock).each(every, put)

    def _change(self, job: _Job, **changes: Any) -> None:
        self._count(job, -1)
        job.record = evolve(job.record, **changes)
        self._count(job, 1)
        self._index.put_job(job.record)

    def _count(self, job: _Job, by: int) -> None:
        self._counts[job.record.state, job.record.kind] += by

    def _end(self, job: _Job, state: JobState, error: str | None = None) -> None:
        if job.state.over:
            return
        self._change(job, state=state.value, finished=self._wall(), error=error)
        job.headers = None
        self._events.note(f"job-{state.value}", job.record.image_id, error or job.record.kind)
        self._active.pop((job.record.kind, job.record.image_id), None)
        self._over.append(job.record.id)
        self._forget()

    def _forget(self) -> None:
        """List no more than the latest of the jobs that are over; forget those before them after a while."""
        now = self._clock.seconds()
        while len(self._over) > _HISTORY:
            unlisted = self._jobs.pop(self._over.popleft())
            self._count(unlisted, -1)
            self._past[unlisted.record.id] = _Past(now, unlisted.record, self._status(unlisted))
        # The oldest come first. Each job that ends takes a few of them away, so that no call is a long one.
        for job_id, past in list(islice(self._past.items(), _FORGOTTEN_AT_A_TIME)):
            if len(self._past) <= _MOST_REMEMBERED and now - past.since < _REMEMBERED:
                break
            del self._past[job_id]
            self._index.delete_job(job_id)

    def _status(self, job: _Job) -> JobStatus:
        record, progress = job.record, job.progress
        done = progress.done()
        rate = 0.0
        if job.meter is not None and job.state is JobState.RUNNING:
            job.meter.add(done - job.seen)
            job.seen, rate = done, job.meter.rate
        left = (progress.size or 0) - done
        waits = job.state is JobState.QUEUED and job.next_try > self._clock.seconds()
        return JobStatus(
            id=record.id,
            kind=JobKind(record.kind),
            image_id=record.image_id,
            state=job.state,
            priority=record.priority,
            created=record.created,
            started=record.started,
            finished=record.finished,
            attempts=record.attempts,
            size=progress.size,
            done=done,
            rate=rate,
            eta=left / rate if rate and progress.size else None,
            error=record.error,
            next_try=self._wall() + job.next_try - self._clock.seconds() if waits else None,
        )
