"""The data site's Klein application: which request goes which way, and what errors look like."""

from __future__ import annotations

import json

from attrs import define, field
from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure

from txglancecache.cache.cache import Cache
from txglancecache.errors import (
    DigestMismatch,
    GlanceCacheError,
    OriginBusy,
    OriginError,
    OriginTimeout,
    RequestBodyBroken,
)
from txglancecache.origin.client import Head
from txglancecache.proxy.images import Images
from txglancecache.proxy.passthrough import PassThrough
from txglancecache.proxy.site import DataRequest

_log = Logger()


@define(eq=False)
class DataApp:
    """Routes requests: image downloads through the cache, everything else to the origin."""

    _cache: Cache
    _images: Images
    _pass_through: PassThrough
    app: Klein = field(init=False)

    @app.default
    def _(self) -> Klein:
        app = Klein()
        # Two converters instead of one: Glance serves /v2 and every /v2.N alike.
        app.route("/v2/images/<image_id>/file", methods=["GET", "HEAD"])(self._download)
        app.route("/v2.<int:minor>/images/<image_id>/file", methods=["GET", "HEAD"])(self._download)
        app.route("/v2/images/<image_id>", methods=["DELETE"])(self._delete)
        app.route("/v2.<int:minor>/images/<image_id>", methods=["DELETE"])(self._delete)
        app.route("/", branch=True)(self._relay)
        app.handle_errors(Exception)(self._failed)
        return app

    async def _download(self, request: DataRequest, image_id: str, minor: int = 0) -> None:
        await self._images.download(request, image_id)

    async def _delete(self, request: DataRequest, image_id: str, minor: int = 0) -> None:
        def forget(head: Head) -> None:
            entry = self._cache.find(image_id)
            if entry is not None and 200 <= head.status < 300:
                self._cache.drop(entry, "deleted")

        await self._pass_through.relay(request, on_head=forget)

    async def _relay(self, request: DataRequest) -> None:
        await self._pass_through.relay(request)

    def _failed(self, request: DataRequest, failure: Failure) -> bytes:
        """The one place where an error becomes a status; nothing has been written yet."""
        error = failure.value
        code, title = next((answer for kind, answer in _ANSWERS if isinstance(error, kind)), _UNEXPECTED)
        if code == 500:
            _log.failure("Cannot answer {method} {uri}", failure, method=request.method, uri=request.uri)
        else:
            _log.warn(
                "{code} for {method} {path}: {error}",
                code=code,
                method=request.method,
                path=request.path,
                error=str(error),
            )
        message = str(error) if isinstance(error, GlanceCacheError) else "see the log of this node"
        return answer_error(request, code, title, message)


_UNEXPECTED = (500, "Internal Server Error")
#: What the client is told, by the kind of error; the first that fits.
_ANSWERS: list[tuple[type[BaseException], tuple[int, str]]] = [
    (OriginTimeout, (504, "Gateway Timeout")),
    (OriginBusy, (503, "Service Unavailable")),
    (OriginError, (502, "Bad Gateway")),
    (DigestMismatch, (502, "Bad Gateway")),
    (RequestBodyBroken, (400, "Bad Request")),
]
