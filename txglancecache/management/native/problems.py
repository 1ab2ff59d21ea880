"""What can go wrong with a request to the native API, and which status says so."""

from __future__ import annotations

from http import HTTPStatus

from attrs import define
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from txglancecache.errors import GlanceCacheError, OriginError, OriginTimeout, StoreError
from txglancecache.management.answers import Problem


@define(eq=False)
class Refused(GlanceCacheError):
    """The request cannot be carried out; ``message`` tells its sender why."""

    message: str

    def __str__(self) -> str:
        return self.message


class BadRequest(Refused):
    """The request makes no sense."""


class NotFound(Refused):
    """What the request is about is not there."""


class Conflict(Refused):
    """What the request is about is in no state for this."""


class NotAcceptable(Refused):
    """There is no answer of a kind that the client takes."""


class TooLarge(Refused):
    """The request's body is longer than anything that is understood here."""


class UnsupportedMedia(Refused):
    """The request's body is not JSON."""


class NotPermitted(Refused):
    """The origin does not let this client know of the image."""


@define(eq=False)
class Unauthorized(Refused):
    """The origin does not take the client's token. ``challenge`` is what it says about how to get one."""

    challenge: bytes | None = None


class Busy(Refused):
    """There are as many of these as there may be."""


_STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (BadRequest, HTTPStatus.BAD_REQUEST),
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (NotPermitted, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (NotAcceptable, HTTPStatus.NOT_ACCEPTABLE),
    (Conflict, HTTPStatus.CONFLICT),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedMedia, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (Busy, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (OriginTimeout, HTTPStatus.GATEWAY_TIMEOUT),
    (OriginError, HTTPStatus.BAD_GATEWAY),
)


def problem_of(error: BaseException | None) -> Problem:
    """The one place that knows which error is which status."""
    match error:
        case MethodNotAllowed():
            methods = ", ".join(sorted(error.valid_methods or ()))
            return Problem(HTTPStatus.METHOD_NOT_ALLOWED, f"allowed here: {methods}", {"Allow": methods})
        case RequestRedirect():
            return Problem(HTTPStatus(error.code), "see Location", {"Location": error.new_url})
        case HTTPException(code=int(code)):
            return Problem(HTTPStatus(code), "nothing is here; /cache/openapi.json says what there is")
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return Problem(status, str(error), _headers(error))
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a bug; the log has the details")


def _headers(error: BaseException | None) -> dict[str, str]:
    match error:
        case Busy():
            return {"Retry-After": "5"}
        case Unauthorized(challenge=bytes(challenge)):
            return {"WWW-Authenticate": challenge.decode("latin-1")}
        case _:
            return {}
