"""The native API of the management site: carries out the operations that `routes` lists.

Knows the cache and the queue by what they tell and do. Who may ask is settled before.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from attrs import define, field
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource

from txglancecache.batches import Batches
from txglancecache.cache.status import EntryStatus, JobKind, JobState, JobStatus
from txglancecache.headers import texts
from txglancecache.management.accept import preferred
from txglancecache.management.access.authenticate import caller_of
from txglancecache.management.answers import JSON, answer, answer_problem, nothing, raw
from txglancecache.management.managed import ManagedCache, ManagedJobs, NodeFacts
from txglancecache.management.native import inputs
from txglancecache.management.native.health import Doctor
from txglancecache.management.native.listing import Listing, MarkerGone, page_of_images
from txglancecache.management.native.openapi import document
from txglancecache.management.native.operations import Operation
from txglancecache.management.native.prefetching import Permission
from txglancecache.management.native.problems import Conflict, NotAcceptable, NotFound, problem_of
from txglancecache.management.native.routes import OPERATIONS, PATH_PARAMETERS
from txglancecache.management.native.schema import (
    event_json,
    freed_json,
    image_detail_json,
    image_json,
    job_json,
    quarantine_json,
    sizes_json,
)
from txglancecache.management.native.streams import Streams

_log = Logger()

_EVENTS_SHOWN = 100
_JOBS_SHOWN = 1000


class Exposition(Protocol):
    """Writes all measurements down in a form that the ``Accept`` field takes; returns it with its type."""

    def __call__(self, accept: str) -> tuple[bytes, str]: ...


@define(eq=False)
class NativeAPI:
    """``/cache`` and what is below it, and ``/metrics``.

    Each operation is carried out by the method of its name, which gets the names in its path, the parameters
    of its query and the members of its body by name.
    """

    _node: NodeFacts
    _cache: ManagedCache
    _jobs: ManagedJobs
    _permission: Permission
    _doctor: Doctor
    _streams: Streams
    _exposition: Exposition
    _clock: IReactorTime
    _batches: Batches = field(init=False)
    _document: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._batches = Batches(self._clock)
        described = document(OPERATIONS, PATH_PARAMETERS, version=self._node.version, auth=self._node.auth)
        self._document = json.dumps(described).encode("ascii")

    def app(self) -> Klein:
        """The application: the table of operations as routes."""
        app = Klein()
        for operation in OPERATIONS:
            route = app.route(operation.route, methods=[operation.method], endpoint=operation.name)
            route(self._route(operation))
        app.handle_errors(Exception)(self._failed)
        return app

    def resource(self) -> IResource:
        return self.app().resource()

    def _route(self, operation: Operation) -> Callable[..., Awaitable[bytes]]:
        def carry_out(request: IRequest, **names: str) -> Awaitable[bytes]:
            return self._carry_out(operation, request, **names)

        return carry_out

    async def _carry_out(self, operation: Operation, request: IRequest, **names: str) -> bytes:
        accepted = texts(request.requestHeaders, b"Accept")
        if operation.kinds and preferred(accepted, operation.kinds) is None:
            raise NotAcceptable(f"this is to be had as {' or '.join(operation.kinds)}")
        said: dict[str, Any] = {**names, **inputs.query(request, operation.parameters)}
        if operation.body is not None:
            said |= inputs.body(request, operation.body)
        method: Callable[..., Awaitable[bytes]] = getattr(self, operation.name)
        return await method(request, **said)

    def _failed(self, request: IRequest, failure: Failure) -> bytes:
        error = failure.value
        if isinstance(error, CancelledError):
            return b""
        problem = problem_of(error)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
        return answer_problem(request, problem)

    # -- the node --------------------------------------------------------------------------------

    async def overview(self, request: IRequest) -> bytes:
        status = self._cache.status()
        recent = self._cache.events.recent()
        return answer(
            request,
            {
                "node": self._node.name,
                "version": self._node.version,
                "uptime": round(self._clock.seconds() - self._node.started, 3),
                "origin": self._node.origin,
                "auth": self._node.auth,
                "entries": status.entries,
                "sizes": sizes_json(status),
                "counters": dict(status.counters),
                "jobs": {
                    "queued": self._jobs.count(state=JobState.QUEUED),
                    "running": self._jobs.count(state=JobState.RUNNING),
                },
                "events": [event_json(event) for event in recent[-_EVENTS_SHOWN:]],
            },
        )

    async def front(self, request: IRequest) -> bytes:
        request.responseHeaders.setRawHeaders(b"Vary", [b"Accept"])
        return await self.overview(request)

    async def counters(self, request: IRequest) -> bytes:
        return answer(request, dict(self._cache.status().counters))

    async def events(self, request: IRequest) -> bytes:
        accepted = texts(request.requestHeaders, b"Accept")
        if preferred(accepted, ("application/json", "text/event-stream")) == "text/event-stream":
            await self._streams.serve(request)
            return b""
        request.responseHeaders.setRawHeaders(b"Vary", [b"Accept"])
        return answer(request, {"events": [event_json(event) for event in self._cache.events.recent()]})

    # -- images ----------------------------------------------------------------------------------

    async def list_images(
        self,
        request: IRequest,
        q: str | None,
        state: str | None,
        pinned: bool | None,
        sort: str,
        limit: int,
        marker: str | None,
    ) -> bytes:
        listing = Listing(q, state, pinned, sort, limit, marker)
        begin = self._cache.entry(marker) if marker is not None else None
        try:
            page = await page_of_images(self._cache.entries(), begin, listing, self._batches)
        except MarkerGone:
            raise Conflict("the marker has left the cache: begin with the first page again") from None
        following = f"/cache/images?{listing.after(page.entries[-1].image_id)}" if page.more else None
        images: list[JSON] = [image_json(entry) for entry in page.entries]
        return answer(request, {"images": images, "total": page.total, "next": following})

    async def purge_images(self, request: IRequest, id: Sequence[str]) -> bytes:
        purged = await self._cache.purge_many(id) if id else await self._cache.purge_all()
        return answer(request, {"purged": purged})

    async def show_image(self, request: IRequest, image_id: str) -> bytes:
        entry = self._cache.entry(image_id)
        if entry is None:
            raise _no_image()
        return answer(request, image_detail_json(entry))

    async def purge_image(self, request: IRequest, image_id: str) -> bytes:
        if not await self._cache.purge(image_id):
            raise _no_image()
        return nothing(request)

    async def pin_image(self, request: IRequest, image_id: str) -> bytes:
        if not self._cache.pin(image_id):
            raise _no_image()
        return nothing(request)

    async def unpin_image(self, request: IRequest, image_id: str) -> bytes:
        if not self._cache.unpin(image_id):
            raise _no_image()
        return nothing(request)

    # -- jobs ------------------------------------------------------------------------------------

    async def verify_image(self, request: IRequest, image_id: str) -> bytes:
        entry = self._cache.entry(image_id)
        if entry is None:
            raise _no_image()
        if not entry.complete:
            raise Conflict("the image is not complete: there is nothing to verify")
        (job,) = self._jobs.submit(JobKind.VERIFY, [image_id])
        return answer(request, job_json(job), HTTPStatus.ACCEPTED)

    async def verify_images(self, request: IRequest) -> bytes:
        jobs: list[JobStatus] = []

        def submit(entries: Sequence[EntryStatus]) -> None:
            complete = [entry.image_id for entry in entries if entry.complete]
            jobs.extend(self._jobs.submit(JobKind.VERIFY, complete))

        await self._batches.each(self._cache.entries(), submit)
        return _queued(request, jobs)

    async def prefetch_images(self, request: IRequest, images: Sequence[str], priority: int) -> bytes:
        identity = caller_of(request).headers or None
        if identity is not None:
            await self._permission.check(images, identity)
        jobs = self._jobs.submit(JobKind.PREFETCH, images, priority=priority, headers=identity)
        return _queued(request, jobs)

    async def list_jobs(
        self, request: IRequest, state: str | None, kind: str | None, limit: int, marker: int | None
    ) -> bytes:
        wanted_state = JobState(state) if state is not None else None
        wanted_kind = JobKind(kind) if kind is not None else None
        found = self._jobs.jobs(state=wanted_state, kind=wanted_kind, after=marker or 0, limit=limit + 1)
        page, more = found[:limit], len(found) > limit
        said = {"state": state, "kind": kind, "limit": limit, "marker": page[-1].id if more else None}
        following = "&".join(f"{name}={value}" for name, value in said.items() if value is not None)
        return answer(
            request,
            {
                "jobs": [job_json(job) for job in page],
                "total": self._jobs.count(state=wanted_state, kind=wanted_kind),
                "next": f"/cache/jobs?{following}" if more else None,
            },
        )

    async def cancel_jobs(self, request: IRequest) -> bytes:
        return answer(request, {"cancelled": await self._jobs.cancel_all(queued_only=True)})

    async def show_job(self, request: IRequest, job_id: str) -> bytes:
        return answer(request, job_json(self._job(job_id)))

    async def cancel_job(self, request: IRequest, job_id: str) -> bytes:
        if not self._jobs.cancel(self._job(job_id).id):
            raise Conflict("the job is over")
        return nothing(request)

    def _job(self, job_id: str) -> JobStatus:
        known = job_id.isascii() and job_id.isdecimal() and len(job_id) < 17
        job = self._jobs.job(int(job_id)) if known else None
        if job is None:
            raise NotFound("there is no such job")
        return job

    # -- upkeep ----------------------------------------------------------------------------------

    async def prune(self, request: IRequest, target: int | None) -> bytes:
        return answer(request, freed_json(await self._cache.prune(target)))

    async def clean(self, request: IRequest) -> bytes:
        return answer(request, freed_json(await self._cache.clean()))

    async def list_quarantine(self, request: IRequest) -> bytes:
        files: list[JSON] = [quarantine_json(file) for file in await self._cache.quarantined()]
        return answer(request, {"files": files})

    async def clear_quarantine(self, request: IRequest) -> bytes:
        return answer(request, freed_json(await self._cache.clear_quarantine()))

    # -- health ----------------------------------------------------------------------------------

    async def health(self, request: IRequest) -> bytes:
        return answer(request, {"status": "ok"})

    async def ready(self, request: IRequest) -> bytes:
        readiness = await self._doctor.readiness()
        status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return answer(request, readiness.as_json(), status)

    async def metrics(self, request: IRequest) -> bytes:
        body, kind = self._exposition(",".join(texts(request.requestHeaders, b"Accept")))
        request.responseHeaders.setRawHeaders(b"Vary", [b"Accept"])
        return raw(request, body, kind)

    async def openapi(self, request: IRequest) -> bytes:
        return raw(request, self._document, "application/json")


def _queued(request: IRequest, jobs: Sequence[JobStatus]) -> bytes:
    shown: list[JSON] = [job_json(job) for job in jobs[:_JOBS_SHOWN]]
    ids: list[JSON] = [job.id for job in jobs]
    return answer(request, {"jobs": shown, "ids": ids, "total": len(jobs)}, HTTPStatus.ACCEPTED)


def _no_image() -> NotFound:
    return NotFound("no such image in this cache")
