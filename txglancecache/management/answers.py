"""JSON on a request: the one shape of every answer and every error of the management site."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from attrs import field, frozen
from twisted.web.iweb import IRequest

JSON = str | int | float | bool | None | Sequence["JSON"] | Mapping[str, "JSON"]


@frozen
class Problem:
    """An answer other than what was asked for."""

    status: HTTPStatus
    message: str
    headers: Mapping[str, str] = field(factory=dict)


def answer(request: IRequest, value: JSON, status: HTTPStatus = HTTPStatus.OK) -> bytes:
    """Set the head of a JSON answer and return its body."""
    return raw(request, json.dumps(value).encode("ascii") + b"\n", "application/json", status)


def raw(request: IRequest, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> bytes:
    """Set the head of an answer with a body of this media type, and return the body."""
    _set_head(request, status)
    request.responseHeaders.setRawHeaders(b"Content-Type", [kind.encode("ascii")])
    request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    return body


def nothing(request: IRequest) -> bytes:
    """Set the head of an answer that says no more than that it was done."""
    _set_head(request, HTTPStatus.NO_CONTENT)
    return b""


def answer_problem(request: IRequest, problem: Problem) -> bytes:
    """Set the head of an error and return its body."""
    for name, value in problem.headers.items():
        request.responseHeaders.setRawHeaders(name, [value])
    status = problem.status
    error = {"code": status.value, "title": status.phrase, "message": problem.message}
    return answer(request, {"error": error}, status)


def _set_head(request: IRequest, status: HTTPStatus) -> None:
    code, phrase = status.value, status.phrase.encode("ascii")
    request.setResponseCode(code, phrase)
    # What is said here is true now and for nobody's cache to keep.
    request.responseHeaders.setRawHeaders(b"Cache-Control", [b"no-store"])
    request.responseHeaders.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
