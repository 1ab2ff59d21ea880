"""The data site's Klein application: which request goes which way, and what errors look like."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from attrs import define
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from txglancecache.cache.cache import Cache
from txglancecache.errors import (
    DigestMismatch,
    GlanceCacheError,
    OriginBusy,
    OriginError,
    OriginTimeout,
    RequestBodyBroken,
)
from txglancecache.headers import texts
from txglancecache.origin.client import Head
from txglancecache.proxy.images import Images
from txglancecache.proxy.passthrough import PassThrough
from txglancecache.proxy.site import DataRequest

_log = Logger()

_MINOR = re.compile(r"[0-9]{1,3}")
#: The path of a download, where nothing in it has to be decoded.
_DOWNLOAD = re.compile(rb"/v2(?:\.[0-9]{1,3})?/images/([0-9A-Za-z_-]{1,255})/file")

#: What the client is told, by the kind of error; the first that fits.
_STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (OriginTimeout, HTTPStatus.GATEWAY_TIMEOUT),
    (OriginBusy, HTTPStatus.SERVICE_UNAVAILABLE),
    (OriginError, HTTPStatus.BAD_GATEWAY),
    (DigestMismatch, HTTPStatus.BAD_GATEWAY),
    (RequestBodyBroken, HTTPStatus.BAD_REQUEST),
    (Exception, HTTPStatus.INTERNAL_SERVER_ERROR),
)


@define(eq=False)
class DataApp:
    """Routes requests: image downloads through the cache, everything else to the origin."""

    _cache: Cache
    _images: Images
    _pass_through: PassThrough

    def resource(self) -> IResource:
        """The application as a resource, for `data_site`."""
        app = Klein()
        # Glance serves /v2 and every /v2.N alike.
        for prefix in ("/v2", "/v2.<string(maxlength=3):minor>"):
            app.route(f"{prefix}/images/<image_id>/file", methods=["GET", "HEAD"])(self._download)
            app.route(f"{prefix}/images/<image_id>", methods=["DELETE"])(self._delete)
        app.route("/", branch=True)(self._relay)
        app.handle_errors(Exception)(_answer_error)  # type: ignore[arg-type]  # its requests are ours
        return _AtOnce(self._images, app.resource())

    async def _download(self, request: DataRequest, image_id: str, minor: str = "0") -> None:
        if _MINOR.fullmatch(minor):
            await self._images.download(request, image_id)
        else:
            await self._relay(request)

    async def _delete(self, request: DataRequest, image_id: str, minor: str = "0") -> None:
        def forget(head: Head) -> None:
            entry = self._cache.find(image_id)
            if entry is not None and 200 <= head.status < 300:
                self._cache.drop(entry, "deleted")

        await self._pass_through.relay(request, on_head=forget)

    async def _relay(self, request: DataRequest) -> None:
        await self._pass_through.relay(request)


class _AtOnce(Resource):
    """Leaves to the routes all that cannot be answered at once."""

    isLeaf = True

    def __init__(self, images: Images, routes: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._images = images
        self._routes = routes

    def render(self, request: DataRequest) -> Any:
        found = _DOWNLOAD.fullmatch(request.path)
        if found is None:
            return self._routes.render(request)
        try:
            if self._images.at_once(request, found[1].decode("ascii")):
                return NOT_DONE_YET
        except Exception:
            return _answer_error(request, Failure())
        return self._routes.render(request)


def _answer_error(request: DataRequest, failure: Failure) -> bytes:
    """The one place where an error becomes a status."""
    error = failure.value
    if isinstance(error, CancelledError) or request.channel is None:
        return b""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.failure("Cannot answer {method} {path}", failure, method=request.method, path=request.path)
    else:
        _log.warn(
            "Answered {method} {path} with {status}: {error}",
            method=request.method,
            path=request.path,
            status=status.value,
            error=str(error),
        )
    if request.startedWriting:
        # A page now would look like the rest of the body.
        request.abort()
        return b""
    message = str(error) if isinstance(error, GlanceCacheError) else "see the log of this node"
    return _page(request, status, message)


def _page(request: DataRequest, status: HTTPStatus, message: str) -> bytes:
    """A short body in JSON, or in plain text for those who would rather have that."""
    accept = ",".join(texts(request.requestHeaders, b"Accept"))
    if "text/" in accept and "json" not in accept:
        kind, text = "text/plain; charset=utf-8", f"{status.value} {status.phrase}: {message}\n"
    else:
        error = {"code": status.value, "title": status.phrase, "message": message}
        kind, text = "application/json", json.dumps({"error": error}) + "\n"
    body = text.encode("utf-8")
    request.verbatim = []
    request.setResponseCode(status.value, status.phrase.encode("ascii"))
    request.setHeader(b"content-type", kind.encode("ascii"))
    request.setHeader(b"content-length", b"%d" % len(body))
    request.setHeader(b"x-content-type-options", b"nosniff")
    return body
