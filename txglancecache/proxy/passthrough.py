"""Pass-through: a client's request to the origin and its answer back, streaming both ways.

What goes through is left alone, but for what a proxy has to change (RFC 9110 section 7.6) and for who
asked. Framing is each connection's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from attrs import define, field
from twisted.logger import Logger

from txglancecache.errors import OriginError, RequestBodyBroken
from txglancecache.headers import Peer, end_to_end, first, forwarded, via, without
from txglancecache.origin.client import Head, OriginClient, Response
from txglancecache.proxy.channel import METHODS
from txglancecache.proxy.site import DataRequest

_log = Logger()


@define(eq=False)
class PassThrough:
    """Forwards requests.

    ``pseudonym`` is this proxy's name in ``Via``; ``trusted`` says of an address whether it is a proxy's
    whose word about its clients is kept.
    """

    _client: OriginClient
    pseudonym: bytes = field(kw_only=True)
    _trusted: Callable[[str], bool] = field(kw_only=True)

    @property
    def via(self) -> bytes:
        """This proxy's member of ``Via``."""
        return b"1.1 " + self.pseudonym

    def outgoing(self, request: DataRequest) -> list[tuple[bytes, bytes]]:
        """The fields that ``request`` goes to the origin with."""
        channel = getattr(request, "channel", None)  # it is gone when the request is over
        if channel is None:
            return self._forwarded(request)
        spelt = request.client, request.method, request.clientproto, request.raw_headers
        if channel.forwarded is None or channel.forwarded[0] != spelt:
            channel.forwarded = spelt, self._forwarded(request)
        fields: list[tuple[bytes, bytes]] = channel.forwarded[1]
        return fields

    def _forwarded(self, request: DataRequest) -> list[tuple[bytes, bytes]]:
        version = request.clientproto.removeprefix(b"HTTP/")
        client = getattr(request.getClientAddress(), "host", "")  # a UNIX socket has no address
        scheme = b"https" if request.isSecure() else b"http"
        peer = Peer(client, scheme, first(request.raw_headers, b"Host"))
        fields = via(end_to_end(request.raw_headers), version, self.pseudonym)
        hops = _hops_left(request)
        if hops is not None:
            fields = [*without(fields, b"Max-Forwards"), (b"Max-Forwards", b"%d" % max(0, hops - 1))]
        fields = forwarded(fields, peer, self._trusted(client))
        if version == b"1.0":
            # It cannot be told to continue, and it need not name a host.
            fields = without(fields, b"Expect")
        if peer.host is None:
            fields.insert(0, (b"Host", self._client.origin.netloc))
        return fields

    async def relay(
        self,
        request: DataRequest,
        *,
        cache_status: bytes | None = None,
        on_head: Callable[[Head], None] | None = None,
    ) -> int:
        """Forward ``request`` and stream the answer to its client; the origin's status.

        :raises OriginError: when there is no answer; nothing has been written then.
        :raises RequestBodyBroken: when the client's body is not whole.
        """
        if _hops_left(request) == 0:
            return self._answer_here(request)
        response = await self._client.request(
            request.method, request.uri, self.outgoing(request), request.body, on_interim=request.interim
        )
        if on_head is not None:
            on_head(response.head)
        await self.answer(request, response, cache_status=cache_status)
        return response.head.status

    def begin(self, request: DataRequest, head: Head, *, cache_status: bytes | None = None) -> None:
        """Prepare the head of an answer that is the origin's."""
        length = first(head.headers, b"Content-Length")
        fields = via(end_to_end(without(head.headers, b"Content-Length")), b"1.1", self.pseudonym)
        if cache_status is not None:
            fields.append((b"Cache-Status", cache_status))
        request.verbatim = fields
        request.setResponseCode(head.status, head.reason)
        request.responseHeaders.removeHeader(b"Date")  # it is the origin's to say
        if length is not None and head.status != 204:
            request.setHeader(b"Content-Length", length)

    def _answer_here(self, request: DataRequest) -> int:
        """Answer for the origin: the client wanted to get as far as this proxy (RFC 9110 section 7.6.2)."""
        status = 204 if request.method == b"OPTIONS" else 405
        request.setResponseCode(status)
        request.setHeader(b"Allow", METHODS)
        request.setHeader(b"Via", self.via)
        if status == 405:
            request.setHeader(b"Content-Length", b"0")
        request.finish()
        return status

    async def answer(
        self, request: DataRequest, response: Response, *, cache_status: bytes | None = None
    ) -> None:
        """Stream an answer that is there already to the client.

        When it breaks off after the head, so does the client's connection.
        """
        self.begin(request, response.head, cache_status=cache_status)
        if request.channel is None:
            response.abandon()
            return
        if response.length is None:
            request.responseHeaders.removeHeader(b"Content-Length")  # chunks overrule it
        request.write(b"")
        request.registerProducer(response, True)
        delivered = response.deliver(request.write)
        request.notifyFinish().addErrback(lambda _: delivered.cancel())
        try:
            await delivered
        except (OriginError, RequestBodyBroken) as error:
            _log.warn(
                "Broke off {method} {path}: {error}",
                method=request.method,
                path=request.path,
                error=str(error),
            )
            request.abort()
        finally:
            if request.channel is not None:
                request.unregisterProducer()
        request.finish()


def _hops_left(request: DataRequest) -> int | None:
    """How many times more the request may be forwarded, where that counts."""
    if request.method not in (b"OPTIONS", b"TRACE"):
        return None
    value = first(request.raw_headers, b"Max-Forwards") or b""
    return int(value) if re.fullmatch(rb"[0-9]{1,9}", value) else None
