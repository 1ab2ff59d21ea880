"""What a request is for: request targets (RFC 9112 section 3.2); bytes in, bytes out."""

from __future__ import annotations

import re

from attrs import frozen

from txglancecache.headers import is_host

_VISIBLE = re.compile(rb"[\x21-\x7e]+")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


@frozen
class Target:
    """A request target as it goes to the origin, and the ``Host`` that it brought, if it did."""

    uri: bytes
    authority: bytes | None = None

    @classmethod
    def parse(cls, method: bytes, text: bytes) -> Target:
        """
        :raises ValueError: for what no origin server can be asked for.
        """
        if not _VISIBLE.fullmatch(text):
            raise ValueError("bytes that no request target has")
        if text.startswith(b"/") or (text == b"*" and method == b"OPTIONS"):
            return cls(text)
        absolute = _ABSOLUTE.fullmatch(text)
        if absolute is None or not absolute[1] or not is_host(absolute[1]):
            raise ValueError("neither a path nor a URL")
        rest = absolute[2]
        if not rest and method == b"OPTIONS":
            return cls(b"*", absolute[1])
        return cls(rest if rest.startswith(b"/") else b"/" + rest, absolute[1])
