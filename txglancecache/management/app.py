"""The native API of the management site: what this node holds, and dropping it.

Knows the cache only as something that tells and purges. Who may listen where is decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

from attrs import define, field, frozen
from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from txglancecache.cache.events import Event, EventLog
from txglancecache.cache.status import CacheStatus, EntryStatus
from txglancecache.errors import StoreError
from txglancecache.management.answers import JSON, Problem, answer, answer_problem, nothing
from txglancecache.management.guard import Guard

_log = Logger()


class ManagedCache(Protocol):
    """What this site needs of the cache."""

    @property
    def events(self) -> EventLog: ...

    def status(self) -> CacheStatus: ...

    def entries(self) -> Sequence[EntryStatus]: ...

    def entry(self, image_id: str) -> EntryStatus | None: ...

    async def purge(self, image_id: str) -> bool: ...

    async def purge_all(self) -> int: ...


@frozen
class NodeFacts:
    """Which process this is. ``started`` is a reading of the clock that the site gets."""

    name: str
    version: str
    origin: str
    started: float


class UnknownImage(Exception):
    """No entry of the cache has this id."""


@define(eq=False)
class ManagementAPI:
    """``/cache`` and what is below it."""

    _cache: ManagedCache
    _node: NodeFacts
    _clock: Callable[[], float] = field(kw_only=True)

    app = Klein()

    @app.route("/cache", methods=["GET"])
    def _overview(self, request: IRequest) -> bytes:
        uptime = round(self._clock() - self._node.started, 3)
        node: dict[str, JSON] = {
            "node": self._node.name,
            "version": self._node.version,
            "uptime": uptime,
            "origin": self._node.origin,
        }
        return answer(request, node | _cache_json(self._cache.status(), self._cache.events.recent()))

    @app.route("/cache/images", methods=["GET"])
    def _list(self, request: IRequest) -> bytes:
        return answer(request, {"images": [_entry_json(entry) for entry in self._cache.entries()]})

    @app.route("/cache/images", methods=["DELETE"])
    async def _purge_all(self, request: IRequest) -> bytes:
        return answer(request, {"purged": await self._cache.purge_all()})

    @app.route("/cache/images/<image_id>", methods=["GET"])
    def _show(self, request: IRequest, image_id: str) -> bytes:
        entry = self._cache.entry(image_id)
        if entry is None:
            raise UnknownImage(image_id)
        return answer(request, _entry_json(entry) | {"extents": [list(extent) for extent in entry.extents]})

    @app.route("/cache/images/<image_id>", methods=["DELETE"])
    async def _purge(self, request: IRequest, image_id: str) -> bytes:
        if not await self._cache.purge(image_id):
            raise UnknownImage(image_id)
        return nothing(request)

    @app.handle_errors(Exception)
    def _failed(self, request: IRequest, failure: Failure) -> bytes:
        problem = _problem(failure.value)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.failure("{method} {uri} failed", failure, method=request.method, uri=request.uri)
        return answer_problem(request, problem)


class GuardedResource(Resource):
    """A resource behind the guard."""

    isLeaf = True

    def __init__(self, inner: IResource, guard: Guard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._inner = inner
        self._guard = guard

    def render(self, request: IRequest) -> bytes | int:
        fields = request.requestHeaders
        refusal = self._guard.refusal(
            request.method,
            fields.getRawHeaders(b"Host", []),
            fields.getRawHeaders(b"Origin", []),
            fields.getRawHeaders(b"Sec-Fetch-Site", []),
        )
        if refusal is not None:
            return answer_problem(request, Problem(refusal.status, refusal.message))
        try:
            b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            return answer_problem(request, Problem(HTTPStatus.BAD_REQUEST, "the path is not UTF-8"))
        body: bytes | int = self._inner.render(request)
        return body


def management_resource(
    cache: ManagedCache, node: NodeFacts, guard: Guard, *, clock: Callable[[], float]
) -> IResource:
    """The root of the management site."""
    return GuardedResource(ManagementAPI(cache, node, clock=clock).app.resource(), guard)


def _problem(error: BaseException | None) -> Problem:
    """The one place that knows which error is which status."""
    match error:
        case UnknownImage():
            return Problem(HTTPStatus.NOT_FOUND, "no such image in this cache")
        case MethodNotAllowed():
            methods = ", ".join(sorted(error.valid_methods or ()))
            return Problem(HTTPStatus.METHOD_NOT_ALLOWED, f"allowed here: {methods}", {"Allow": methods})
        case RequestRedirect():
            return Problem(HTTPStatus(error.code), "see Location", {"Location": error.new_url})
        case HTTPException(code=int(code)):
            return Problem(HTTPStatus(code), "nothing is here")
        case StoreError():
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        case _:
            return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a bug; the log has the details")


def _cache_json(status: CacheStatus, events: Sequence[Event]) -> dict[str, JSON]:
    return {
        "entries": status.entries,
        "sizes": {
            "bytes_on_disk": status.bytes_on_disk,
            "reserved": status.reserved,
            "max_size": status.max_size,
            "min_free": status.min_free,
            "disk_free": status.disk_free,
            "quarantined": status.quarantined,
        },
        "counters": dict(status.counters),
        "events": [
            {"time": event.time, "kind": event.kind, "image_id": event.image_id, "detail": event.detail}
            for event in events
        ],
    }


def _entry_json(entry: EntryStatus) -> dict[str, JSON]:
    return {
        "id": entry.image_id,
        "size": entry.size,
        "bytes_on_disk": entry.bytes_on_disk,
        "complete": entry.complete,
        "digest": entry.digest,
        "hits": entry.hits,
        "created": entry.created,
        "last_access": entry.last_access or None,
        "readers": entry.readers,
        "pinned": entry.pinned,
        "filling": entry.filling,
    }
