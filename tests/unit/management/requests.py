"""A request as an authenticator gets it."""

from __future__ import annotations

from typing import Any, cast

from twisted.web.iweb import IRequest
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel


def a_request(channel: Any = None, **fields: bytes | list[bytes]) -> IRequest:
    """A request with these fields, on a channel that is there for it."""
    request = Request(channel or DummyChannel())
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        request.requestHeaders.setRawHeaders(name.replace("_", "-").encode("ascii"), values)
    return cast(IRequest, request)
