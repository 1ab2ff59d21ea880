"""What tools made for Glance's own cache ask of it: its cache API, 2.14 to 2.18, and the one before that.

They find the same paths, statuses and documents as there, about this node alone. What they look up on the
way, the origin answers. Bodies and content types of requests are not looked at: some send odd ones.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from attrs import define
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import NotFound

from txglancecache.batches import Batches
from txglancecache.cache.status import EntryStatus, JobKind
from txglancecache.headers import first
from txglancecache.image import Image, is_image_id
from txglancecache.management.access.authenticate import caller_of
from txglancecache.management.answers import JSON, Problem, answer, nothing, raw
from txglancecache.management.compatible.answers import empty, refuse
from txglancecache.management.compatible.forward import Forward
from txglancecache.management.compatible.versions import with_cache_versions
from txglancecache.management.managed import Catalog, ManagedCache, ManagedJobs
from txglancecache.management.native.problems import problem_of
from txglancecache.origin.glance import Answer, Denied, Uncacheable

_log = Logger()

_ASKED = ("GET", "HEAD")
_NOT_ACTIVE = "Only images with status active can be targeted for queueing"
_NO_TARGET = "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string."


@define(eq=False)
class Denial(Exception):
    """The origin does not let the caller know of the image."""

    answer: Answer


@define(eq=False)
class UnknownImage(Exception):
    """The origin has no such image, as far as the caller may know."""

    image_id: str


@define(eq=False)
class CompatibleAPI:
    """``/v2/cache``, ``/v2/cached_images``, ``/v2/queued_images``, and what leads there."""

    _cache: ManagedCache
    _jobs: ManagedJobs
    _catalog: Catalog
    _forward: Forward
    _batches: Batches

    app = Klein()
    app.url_map.merge_slashes = False  # an odd path is no path, not another one

    # Since Glance 2.14

    @app.route("/v2/cache", methods=["GET"])
    async def _list(self, request: Request) -> bytes:
        return await self._answer_cached(
            request, {"queued_images": [*self._jobs.unfinished(JobKind.PREFETCH)]}
        )

    @app.route("/v2/cache", methods=["DELETE"])
    async def _clear(self, request: Request) -> bytes:
        target = (request.getHeader(b"x-image-cache-clear-target") or b"").strip().lower()
        if target not in (b"", b"both", b"cache", b"queue"):
            return refuse(request, Problem(HTTPStatus.BAD_REQUEST, _NO_TARGET))
        # The queue first, or what is dropped is fetched again.
        if target != b"cache":
            await self._jobs.cancel_all(kind=JobKind.PREFETCH)
        if target != b"queue":
            await self._cache.purge_all()
        return nothing(request)

    @app.route("/v2/cache/<image_id>", methods=["PUT"])
    async def _queue(self, request: Request, image_id: str) -> bytes:
        if await self._identify(request, image_id) is Uncacheable.NOT_ACTIVE:
            return refuse(request, Problem(HTTPStatus.BAD_REQUEST, _NOT_ACTIVE))
        self._submit(request, image_id)
        return empty(request, HTTPStatus.ACCEPTED)

    @app.route("/v2/cache/<image_id>", methods=["DELETE"])
    async def _drop(self, request: Request, image_id: str) -> bytes:
        cancelled = self._jobs.cancel_image(JobKind.PREFETCH, image_id)
        if not cancelled and self._cache.entry(image_id) is None:
            await self._identify(request, image_id)
        await self._cache.purge(image_id)
        return nothing(request)

    @app.route("/v2/cache/clean", methods=["POST"])
    async def _clean(self, request: Request) -> bytes:
        await self._cache.clean()
        return empty(request)

    @app.route("/v2/cache/prune", methods=["POST"])
    async def _prune(self, request: Request) -> bytes:
        freed = await self._cache.prune()
        return answer(request, {"total_files_pruned": freed.files, "total_bytes_pruned": freed.bytes})

    @app.route("/v2/cache/nodes/<image_id>", methods=["GET"])
    async def _nodes(self, request: Request, image_id: str) -> bytes:
        entry = self._cache.entry(image_id)
        if entry is not None and entry.complete:
            return answer(request, [_own_url(request)])
        await self._identify(request, image_id)
        return answer(request, [])

    # Before 2.14

    @app.route("/v1/cached_images", methods=["GET"])
    @app.route("/v2/cached_images", methods=["GET"])
    async def _list_cached(self, request: Request) -> bytes:
        return await self._answer_cached(request, {})

    @app.route("/v1/cached_images", methods=["DELETE"])
    @app.route("/v2/cached_images", methods=["DELETE"])
    async def _drop_cached(self, request: Request) -> bytes:
        return answer(request, {"num_deleted": await self._cache.purge_all()})

    @app.route("/v1/cached_images/<image_id>", methods=["DELETE"])
    @app.route("/v2/cached_images/<image_id>", methods=["DELETE"])
    async def _drop_one_cached(self, request: Request, image_id: str) -> bytes:
        await self._cache.purge(image_id)
        return answer(request, None)

    @app.route("/v1/queued_images", methods=["GET"])
    @app.route("/v2/queued_images", methods=["GET"])
    def _list_queued(self, request: Request) -> bytes:
        return answer(request, {"queued_images": [*self._jobs.unfinished(JobKind.PREFETCH)]})

    @app.route("/v1/queued_images", methods=["DELETE"])
    @app.route("/v2/queued_images", methods=["DELETE"])
    async def _drop_queued(self, request: Request) -> bytes:
        return answer(request, {"num_deleted": await self._jobs.cancel_all(kind=JobKind.PREFETCH)})

    @app.route("/v1/queued_images/<image_id>", methods=["PUT"])
    @app.route("/v2/queued_images/<image_id>", methods=["PUT"])
    def _queue_one(self, request: Request, image_id: str) -> bytes:
        self._submit(request, image_id)
        return answer(request, None)

    @app.route("/v1/queued_images/<image_id>", methods=["DELETE"])
    @app.route("/v2/queued_images/<image_id>", methods=["DELETE"])
    def _drop_one_queued(self, request: Request, image_id: str) -> bytes:
        self._jobs.cancel_image(JobKind.PREFETCH, image_id)
        return answer(request, None)

    # On the way

    @app.route("/", methods=_ASKED)
    @app.route("/versions", methods=_ASKED)
    async def _versions(self, request: Request) -> bytes:
        return await self._forward.relay_edited(request, with_cache_versions)

    @app.route("/v2", methods=_ASKED)
    @app.route("/v2/", methods=_ASKED)
    @app.route("/v2/images", methods=_ASKED)
    @app.route("/v2/images/<image_id>", methods=_ASKED)
    @app.route("/v2/schemas/<path:rest>", methods=_ASKED)
    @app.route("/v2/metadefs/<path:rest>", methods=_ASKED)
    async def _look_up(self, request: Request, **where: str) -> bytes:
        return await self._forward.relay(request)

    @app.route("/v2/images/<image_id>/<path:rest>", methods=_ASKED)
    async def _look_into(self, request: Request, image_id: str, rest: str) -> bytes:
        if rest == "file":
            raise NotFound
        return await self._forward.relay(request)

    # When it fails

    @app.handle_errors(Exception)  # type: ignore[arg-type]  # its requests are Twisted's
    def _failed(self, request: Request, failure: Failure) -> bytes:
        error = failure.value
        if isinstance(error, CancelledError):
            return b""
        if isinstance(error, Denial):
            return self._forward.give(request, error.answer)
        problem = _problem(error)
        if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
        return refuse(request, problem)

    # Inside

    async def _answer_cached(self, request: Request, more: dict[str, JSON]) -> bytes:
        """What is here whole, and more: who waits for an image looks for it in this list.

        It has no pages, and there may be very many: each is written down when it is its turn.
        """
        written: dict[str, str] = {}

        def write(entries: list[EntryStatus]) -> None:
            written.update((entry.image_id, _written(entry)) for entry in entries if entry.complete)

        await self._batches.each(self._cache.entries(), write)
        cached = ", ".join(written[image_id] for image_id in sorted(written))
        rest = json.dumps({"cached_images": None, **more}).removeprefix('{"cached_images": null')
        return raw(request, f'{{"cached_images": [{cached}]{rest}\n'.encode("ascii"), "application/json")

    def _submit(self, request: Request, image_id: str) -> None:
        self._jobs.submit(JobKind.PREFETCH, [image_id], headers=caller_of(request).headers or None)

    async def _identify(self, request: Request, image_id: str) -> Image | Uncacheable | None:
        """What the origin says that an image is; ``None``: that it would tell only somebody with a token.

        :raises UnknownImage: there is no such image.
        :raises Denial: the caller is not to know.
        """
        if not is_image_id(image_id):
            raise UnknownImage(image_id)
        fields = self._forward.fields(request)
        found = await self._catalog.identify(b"/v2/images/" + image_id.encode("ascii"), fields)
        if not isinstance(found, Denied):
            return found
        match found.answer.head.status:
            case 404:
                raise UnknownImage(image_id)
            case 401 if not first(fields, b"X-Auth-Token"):
                return None
        raise Denial(found.answer)


def compatible_resource(
    cache: ManagedCache, jobs: ManagedJobs, catalog: Catalog, forward: Forward, batches: Batches
) -> IResource:
    """The compatible API. What is for it, and how, `compat_paths` knows."""
    return CompatibleAPI(cache, jobs, catalog, forward, batches).app.resource()


def _written(entry: EntryStatus) -> str:
    return json.dumps(
        {
            "image_id": entry.image_id,
            "hits": entry.hits,
            "last_accessed": entry.last_access,
            "last_modified": entry.created,
            "size": entry.size,
        }
    )


def _problem(error: BaseException | None) -> Problem:
    match error:
        case UnknownImage(image_id=image_id):
            return Problem(HTTPStatus.NOT_FOUND, f"Image {image_id} not found.")
        case NotFound():
            return Problem(HTTPStatus.NOT_FOUND, "The resource could not be found.")
    return problem_of(error)


def _own_url(request: Request) -> str:
    """Where the caller found this node."""
    host = request.getHeader(b"host") or b"localhost"
    return f"{'https' if request.isSecure() else 'http'}://{host.decode('ascii')}"
