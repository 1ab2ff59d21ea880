"""Asking the origin in a caller's name: what tools look up on their way to the cache.

Documents, taken as a whole: images' descriptions, schemas, versions. Image data has a site of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve, field
from twisted.web.server import Request

from txglancecache.headers import Peer, end_to_end, first, forwarded, via, without
from txglancecache.origin.client import OriginClient
from txglancecache.origin.glance import Answer

#: A page of a thousand images with all their properties is smaller.
_LARGEST = 8 << 20
#: Statuses whose answers have no body and no length of one (RFC 9110 section 8.6).
_BODILESS = frozenset({204, 304})


@define(eq=False)
class Forward:
    """Puts callers' questions to the origin.

    ``pseudonym`` is this node's name in ``Via``; ``trusted`` says of an address whether it is a proxy's
    whose word about its clients is kept.
    """

    _client: OriginClient
    _pseudonym: bytes = field(kw_only=True)
    _trusted: Callable[[str], bool] = field(kw_only=True)

    def fields(self, request: Request) -> list[tuple[bytes, bytes]]:
        """The fields that a question about ``request`` goes to the origin with: those of its caller."""
        received = [
            (name, value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
            if name.lower() not in (b"content-length", b"content-type", b"expect")
        ]
        client = getattr(request.getClientAddress(), "host", "")  # a UNIX socket has no address
        peer = Peer(client, b"https" if request.isSecure() else b"http", first(received, b"Host"))
        sent = via(end_to_end(received), request.clientproto.removeprefix(b"HTTP/"), self._pseudonym)
        sent = forwarded(sent, peer, self._trusted(client))
        return sent if peer.host is not None else [(b"Host", self._client.origin.netloc), *sent]

    async def relay(self, request: Request) -> bytes:
        """Ask what ``request`` asks, a GET or a HEAD; the body of the answer, whose head has been set.

        :raises OriginError: there is no answer, or it is longer than any document.
        """
        response = await self._client.request(request.method, request.uri, self.fields(request))
        return self.give(request, Answer(response.head, await response.collect(_LARGEST)))

    async def relay_edited(self, request: Request, edit: Callable[[bytes], bytes]) -> bytes:
        """As `relay`, with another document in place of the origin's."""
        fields = [*without(self.fields(request), b"Accept-Encoding"), (b"Accept-Encoding", b"identity")]
        response = await self._client.request(b"GET", request.uri, fields)
        document = edit(await response.collect(_LARGEST))
        fields = without(response.head.headers, b"Content-Length", b"Content-MD5", b"ETag")
        fields.append((b"Content-Length", b"%d" % len(document)))
        return self.give(request, Answer(evolve(response.head, headers=tuple(fields)), document))

    def give(self, request: Request, answer: Answer) -> bytes:
        """Set the head of ``request``'s answer to that of the origin's; its body."""
        head = answer.head
        length: bytes | None = b"%d" % len(answer.body)
        if request.method == b"HEAD":
            length = first(head.headers, b"Content-Length")
        request.defaultContentType = None  # it is the origin's to say
        for name in (b"Server", b"Date"):
            request.responseHeaders.removeHeader(name)
        request.setResponseCode(head.status, head.reason)
        for name, value in via(end_to_end(without(head.headers, b"Content-Length")), b"1.1", self._pseudonym):
            request.responseHeaders.addRawHeader(name, value)
        if length is not None and head.status not in _BODILESS:
            request.responseHeaders.setRawHeaders(b"Content-Length", [length])
        return answer.body
