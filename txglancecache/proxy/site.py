"""The data site as twisted.web sees it: its requests, its root and its factory."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web.http import datetimeToString, parse_qs
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from txglancecache.clients.site import ClientSite
from txglancecache.headers import end_to_end, first, without
from txglancecache.origin.framing import Head
from txglancecache.proxy.body import IncomingBody
from txglancecache.proxy.channel import DataChannel
from txglancecache.proxy.target import Target

#: Control characters (C0, C1 and DEL): a route's pattern stops at some of them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_Request: Any = Request  # next to nothing of it has types


class DataRequest(_Request):  # type: ignore[misc]  # see above
    """A request that is processed as soon as its head is in.

    ``raw_headers`` are its fields as the client spelt them, ``body`` is what the client sends, if it
    announced something, and ``verbatim`` are fields of the answer that are written as they are. There is no
    ``content``. ``cache_status`` is what an answer out of the cache says of itself.
    """

    defaultContentType = None

    channel: Any
    method: bytes
    uri: bytes
    path: bytes
    clientproto: bytes
    requestHeaders: Headers
    responseHeaders: Headers
    sentLength: int
    prepath: list[bytes]
    postpath: list[bytes]

    def __init__(self, channel: Any, *args: Any, **options: Any) -> None:
        super().__init__(channel, *args, **options)
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.body: IncomingBody | None = None
        self.verbatim: list[tuple[bytes, bytes]] = []
        self.cache_status: bytes | None = None
        self.aborted = False

    def __repr__(self) -> str:
        return f"<{self.method!r} {self.path!r}>"  # Twisted logs it, and a query may hold secrets

    # For the channel

    def gotLength(self, length: int | None) -> None:
        if length == 0 and not self.requestHeaders.hasHeader(b"Content-Length"):
            return
        self.body = IncomingBody(UNKNOWN_LENGTH if length is None else length, self.channel.read_body)

    def head_received(self, method: bytes, target: Target, version: bytes) -> None:
        """What the first line said. An absolute target brings the ``Host`` with it (RFC 9112, 3.2.2)."""
        self.method, self.uri, self.clientproto = method, target.uri, version
        self.path, _, query = target.uri.partition(b"?")
        self.args = parse_qs(query, True) if query else {}
        if target.authority is not None:
            self.requestHeaders.setRawHeaders(b"Host", [target.authority])
            self.raw_headers = [(b"Host", target.authority), *without(self.raw_headers, b"Host")]

    def handleContentChunk(self, data: bytes) -> None:
        assert self.body is not None
        self.body.feed(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of it is in."""
        if self.body is not None:
            self.body.end()
        if self.body is None or self.body.length == 0:
            self.process()

    def process(self) -> None:
        """Find the resource and have it render, as `twisted.web.server.Request` does, whatever the target."""
        self.site = self.channel.site
        self.setHeader(b"Date", datetimeToString())
        self.prepath = []
        self.postpath = [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:
            self.processingFailed(Failure())

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        if self.body is not None:
            self.body.break_off()

    # For whoever answers

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body (RFC 9110 section 10.1.1)."""
        expect = first(self.raw_headers, b"Expect") or b""
        return self.clientproto == b"HTTP/1.1" and expect.lower() == b"100-continue"

    def interim(self, head: Head) -> None:
        """Pass a 1xx answer on, to clients that know of them."""
        if self.channel is not None and not self.startedWriting and self.clientproto == b"HTTP/1.1":
            fields = b"".join(b"%s: %s\r\n" % field for field in end_to_end(head.headers))
            self.channel.write(b"HTTP/1.1 %d %s\r\n%s\r\n" % (head.status, head.reason, fields))
            self.channel.body_may_begin()

    def write(self, data: bytes) -> None:
        if not self.startedWriting and self.channel is not None:
            if self.body is not None and not self.body.complete:
                # Nobody knows where the next request would begin.
                self.channel.persistent = False
            if not self.channel.persistent:
                self.setHeader(b"Connection", b"close")
        super().write(data)

    def abort(self) -> None:
        """Break the answer off, so that what was sent cannot be taken for the whole."""
        if self.channel is not None and not self.aborted:
            self.aborted = True
            self.channel.transport.abortConnection()

    def finish(self) -> None:
        if not self.aborted:
            super().finish()

    def getRequestHostname(self) -> bytes:
        """Names that nothing is routed by; routing must not stumble over them."""
        return b"localhost"


class DataRoot(Resource):
    """Gives every request to ``app``, which routes by decoded paths.

    A target that does not decode to one path and no other (not UTF-8, control characters, an encoded or a
    doubled leading slash, ``*``) is routed as ``/*``, and so is a method in small letters, which Klein would
    take for another: that is the way of everything that has no route of its own, and it is forwarded by its
    ``uri``.
    """

    isLeaf = True

    def __init__(self, app: IResource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so it is in Twisted
        self._app = app

    def render(self, request: DataRequest) -> Any:
        if not (request.method.isupper() and _is_one_path(request)):
            request.postpath = [b"*"]
        return self._app.render(request)


def _is_one_path(request: DataRequest) -> bool:
    if not request.path.startswith(b"/") or request.path.startswith(b"//"):
        return False
    if any(b"/" in segment for segment in request.postpath):
        return False
    try:
        path = b"/".join(request.postpath).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(path) is None


class DataSite(ClientSite):
    """A factory for connections of clients. HTTP/1.1 only: a stream of HTTP/2 has no socket of its own."""

    protocol = DataChannel
    requestFactory = DataRequest


def data_site(app: IResource, **options: Any) -> DataSite:
    """The data site; `ClientSite` says what else there is to say."""
    return DataSite(DataRoot(app), **options)
