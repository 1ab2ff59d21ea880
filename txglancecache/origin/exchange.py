"""One request, and the wait for the head of its answer."""

from __future__ import annotations

from collections.abc import Callable

import h11
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer

from txglancecache.errors import OriginProtocolError, RequestBodyBroken
from txglancecache.headers import RawHeaders, first, without
from txglancecache.origin.connection import OriginConnection
from txglancecache.origin.framing import MAX_HEAD, MAX_INTERIM, Head, body_reader, keeps_alive
from txglancecache.origin.response import Response


class StaleConnection(OriginProtocolError):
    """A connection that had been used before was closed without a byte of an answer."""


def framed_request(
    method: bytes, target: bytes, headers: RawHeaders, body: IBodyProducer | None
) -> h11.Request:
    """A request whose framing is told by ``body`` alone, whatever ``headers`` say.

    :raises h11.LocalProtocolError: for what cannot be sent.
    """
    fields = without(headers, b"Content-Length", b"Transfer-Encoding")
    if body is not None and body.length is UNKNOWN_LENGTH:
        fields.append((b"Transfer-Encoding", b"chunked"))
    elif body is not None:
        fields.append((b"Content-Length", b"%d" % (body.length,)))
    return h11.Request(method=method, target=target, headers=fields)


@define(eq=False)
class Exchange:
    """Sends ``request`` and reads up to the final head, which it makes a `Response` of."""

    _connection: OriginConnection
    _request: h11.Request = field(repr=False)
    _on_interim: Callable[[Head], None] | None
    _parser: h11.Connection = field(init=False)
    _answer: Deferred[Response] = field(init=False)
    _heard: bool = field(default=False, init=False)
    _interim: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._answer = Deferred(lambda _: self._connection.abort())

    def begin(self, body: IBodyProducer | None) -> Deferred[Response]:
        """Fires when the head is in. Cancelling it aborts the connection."""
        connection = self._connection
        connection.take(self)
        if connection.lost:
            self.lost(clean=True)
            return self._answer
        connection.send(self._parser.send(self._request))
        if body is None:
            self._parser.send(h11.EndOfMessage())
        else:
            expect = first(self._request.headers, b"Expect") or b""
            expecting = expect.lower() == b"100-continue"
            connection.send_body(self._parser, body, expecting).addErrback(self._body_broke)
        return self._answer

    # For the connection

    def received(self, data: bytes) -> None:
        self._heard = True
        try:
            self._parser.receive_data(data)
            while isinstance(event := self._parser.next_event(), h11.InformationalResponse):
                self._interim_in(event)
            if isinstance(event, h11.Response):
                self._head_in(event)
        except h11.RemoteProtocolError as error:
            self._connection.fail(OriginProtocolError(f"the origin sent no proper answer: {error}"))
        except OriginProtocolError as error:
            self._connection.fail(error)

    def failed(self, error: Exception) -> None:
        self._answer.errback(error)

    def lost(self, clean: bool) -> None:
        if self._heard:
            self.failed(OriginProtocolError("the origin closed within the head of its answer"))
        elif self._connection.exchanges > 1:
            self.failed(StaleConnection("the origin closed a kept connection without an answer"))
        else:
            self.failed(OriginProtocolError("the origin closed without an answer"))

    # Inside

    def _interim_in(self, event: h11.InformationalResponse) -> None:
        head = Head.of(event)
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise OriginProtocolError(f"the origin sent {self._interim} interim answers")
        self._connection.heard_interim()
        if self._on_interim is not None:
            self._on_interim(head)

    def _head_in(self, event: h11.Response) -> None:
        connection = self._connection
        head = Head.of(event)
        if event.status_code >= 300:
            connection.stop_upload()
        reader, trailing = body_reader(bytes(self._request.method), event, self._parser)
        response = Response(head, reader, connection, keeps_alive(event))
        connection.receiver = response
        response.received(trailing)
        if connection.receiver is response:
            connection.hold()
        if response.error is None:
            self._answer.callback(response)
        else:
            self._answer.errback(response.error)

    def _body_broke(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, RequestBodyBroken):
            error = RequestBodyBroken()
            error.__cause__ = failure.value
        self._connection.fail(error)
