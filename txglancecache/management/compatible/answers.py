"""What Glance's errors look like to the tools that were written for them.

HTML to who takes anything (which is what Glance's own client asks for), JSON to who wants that, plain text
to everybody else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from http import HTTPStatus

from twisted.web.iweb import IRequest

from txglancecache.headers import texts
from txglancecache.management.accept import preferred
from txglancecache.management.answers import Problem, answer_problem
from txglancecache.management.compatible.paths import is_for_glance

_HTML, _JSON = "text/html", "application/json"


def refuse(request: IRequest, problem: Problem) -> bytes:
    """Set the head of an error and return its body."""
    for name, value in problem.headers.items():
        request.responseHeaders.setRawHeaders(name, [value])
    accept = texts(request.requestHeaders, b"Accept")
    kind, text = page(accept, problem.status, problem.message)
    body = text.encode("utf-8")
    request.responseHeaders.setRawHeaders("Content-Type", [kind])
    request.responseHeaders.setRawHeaders("X-Content-Type-Options", ["nosniff"])
    _set_head(request, problem.status, len(body))
    return body


def refuse_in_kind(request: IRequest, problem: Problem) -> bytes:
    """As `refuse` where something of Glance's is asked for; as this site's own API does elsewhere."""
    return refuse(request, problem) if is_for_glance(request) else answer_problem(request, problem)


def empty(request: IRequest, status: HTTPStatus = HTTPStatus.OK) -> bytes:
    """Set the head of an answer that says no more than its status."""
    _set_head(request, status, 0)
    return b""


def page(accept: Sequence[str], status: HTTPStatus, message: str) -> tuple[str, str]:
    """Content type and text of an error, for the values of ``Accept``."""
    title = f"{status.value} {status.phrase}"
    match preferred(accept, (_HTML, _JSON)) if accept else None:
        case "text/html":
            text = (
                f"<html>\n <head>\n  <title>{title}</title>\n </head>\n"
                f" <body>\n  <h1>{title}</h1>\n  {escape(message)}<br /><br />\n </body>\n</html>\n"
            )
            return f"{_HTML}; charset=UTF-8", text
        case "application/json":
            text = json.dumps({"message": message, "code": title, "title": status.phrase})
            return _JSON, f"{text}\n"
        case _:
            return "text/plain; charset=UTF-8", f"{title}\n\n{message}\n"


def _set_head(request: IRequest, status: HTTPStatus, length: int) -> None:
    request.setResponseCode(status.value, status.phrase.encode("ascii"))
    # What is said here is true now and for nobody's cache to keep.
    request.responseHeaders.setRawHeaders("Cache-Control", ["no-store"])
    request.responseHeaders.setRawHeaders("Content-Length", [str(length)])
