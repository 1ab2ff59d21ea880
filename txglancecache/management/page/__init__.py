"""The web page of the management site: files that are the same for everybody, served from memory.

What the page shows it asks the native API for, with the token of whoever looks at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files

from attrs import frozen
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from txglancecache.headers import texts
from txglancecache.management.accept import preferred

_HTML = "text/html"
_FILES = {
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
#: Nothing from elsewhere, nothing inline, and in nobody's frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@frozen
class _File:
    body: bytes
    kind: str
    etag: bytes


class Page(Resource):
    """``/cache/`` for browsers, and the files below ``/cache/static/``."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        page = _read("index.html", f"{_HTML}; charset=utf-8")
        self._files: dict[tuple[str, ...], _File] = {("cache", ""): page}
        for name, kind in _FILES.items():
            self._files["cache", "static", name] = _read(name, kind)

    def claims(self, request: IRequest) -> bool:
        """Whether this request is for the page: for one of its files, or for HTML at ``/cache/``."""
        path = _path(request.postpath)
        if path == ("cache", ""):
            accepted = texts(request.requestHeaders, b"Accept")
            wanted = preferred(accepted, ("application/json", _HTML)) == _HTML
            return wanted and request.method in (b"GET", b"HEAD")
        return path[:2] == ("cache", "static")

    def render(self, request: IRequest) -> bytes:
        headers = request.responseHeaders
        headers.setRawHeaders(b"Content-Security-Policy", [_POLICY.encode("ascii")])
        headers.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
        headers.setRawHeaders(b"Referrer-Policy", [b"no-referrer"])
        headers.setRawHeaders(b"Vary", [b"Accept"])
        file = self._files.get(_path(request.postpath))
        if file is None:
            request.setResponseCode(404)
            headers.setRawHeaders(b"Content-Type", [b"text/plain"])
            return b"no such file\n"
        if request.method not in (b"GET", b"HEAD"):
            request.setResponseCode(405)
            headers.setRawHeaders(b"Allow", [b"GET, HEAD"])
            return b""
        headers.setRawHeaders(b"Content-Type", [file.kind.encode("ascii")])
        headers.setRawHeaders(b"Cache-Control", [b"no-cache"])
        if request.setETag(file.etag):
            return b""
        headers.setRawHeaders(b"Content-Length", [b"%d" % len(file.body)])
        return file.body


def _read(name: str, kind: str) -> _File:
    body = files(__package__).joinpath(name).read_bytes()
    return _File(body, kind, b'"%s"' % sha256(body).hexdigest()[:32].encode("ascii"))


def _path(segments: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(segment.decode("utf-8", "replace") for segment in segments)
