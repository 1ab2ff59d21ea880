"""The data site's end of a client's connection.

A `ClientChannel` with these differences:

- a request is processed as soon as its head is in, and its body handed on as it comes, while the consumer
  of the body decides when the socket is read;
- nobody but the origin says ``100 Continue``;
- a client that is answered before it has sent everything gets the whole answer, although it is still
  sending when the connection is closed.
"""

from __future__ import annotations

from typing import Any

from twisted.web.http_headers import Headers

from txglancecache.clients.channel import LINGER_TIME, ClientChannel
from txglancecache.clients.refusals import Refusal
from txglancecache.headers import values, without
from txglancecache.proxy.body import IncomingBody
from txglancecache.proxy.target import Target

#: What this proxy forwards; an answer of its own that names methods names these. It forwards others too.
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"


class DataChannel(ClientChannel):
    """Feeds `DataRequest`s."""

    #: What the last request was forwarded with, by how it was spelt: many a client asks the same again.
    forwarded: tuple[object, list[tuple[bytes, bytes]]] | None = None

    _incoming: IncomingBody | None = None
    _held = False
    _expecting = False

    # The head

    def field_received(self, name: bytes, value: bytes) -> None:
        self.requests[-1].raw_headers.append((name, value))

    def head_received(self, request: Any) -> None:
        if self._command == b"CONNECT":
            self.refuse(Refusal.METHOD, b"Allow: " + METHODS + b"\r\n")
            return
        try:
            target = Target.parse(self._command, self._path)
        except ValueError:
            self.refuse(Refusal.MALFORMED)
            return
        self.persistent = self.checkPersistence(request, self._version)
        request.gotLength(self.length)
        request.head_received(self._command, target, self._version)
        if self.length != 0:
            self._incoming = request.body
            self._expecting = request.expects_continue
            self.read_body(request.body, False)
            request.process()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        options = b",".join(values(request.raw_headers, b"Connection")).lower().split(b",")
        return version == b"HTTP/1.1" and b"close" not in (option.strip(b" \t") for option in options)

    # The body

    def read_body(self, body: IncomingBody, wanted: bool) -> None:
        """The consumer of ``body`` wants more of it, or wants the client to wait."""
        if body is self._incoming:
            self._held = not wanted
            self._read_or_wait(body)

    def _read_or_wait(self, body: IncomingBody) -> None:
        # A client that does not take its answer is not read either, as in HTTPChannel. But many a client
        # takes an answer only when it has sent everything, even if nobody wants that any more.
        reading = not self._held and (body.discarding or not self._waitingForTransport)
        self.await_body(reading and not self._expecting)
        if reading:
            self._networkProducer.resumeProducing()
        else:
            self._networkProducer.pauseProducing()

    def body_may_begin(self) -> None:
        """The client has been told to go on, or goes on by itself: from now on it is waited for."""
        if self._expecting:
            self._expecting = False
            if self._incoming is not None:
                self._read_or_wait(self._incoming)

    def rawDataReceived(self, data: bytes) -> None:
        self.body_may_begin()
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        if self._incoming is not None and not self.refused:
            self.read_body(self._incoming, True)
            self._incoming = None
        super().allContentReceived()

    # The answer

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """With the request's own ``verbatim`` fields, unless ``headers`` has them too."""
        own = dict(headers.getAllRawHeaders())
        fields = without(self.requests[0].verbatim, *own)
        fields += [(name, value) for name, found in own.items() for value in found]
        lines = [b"%b %b %b\r\n" % (version, code, reason), *(b"%b: %b\r\n" % field for field in fields)]
        self.transport.write(b"".join([*lines, b"\r\n"]))

    def pauseProducing(self) -> None:
        super().pauseProducing()
        if self._incoming is not None:
            self._read_or_wait(self._incoming)

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self._incoming is not None:
            self._read_or_wait(self._incoming)

    def requestDone(self, request: Any) -> None:
        if request.body is None or request.body.complete:
            super().requestDone(request)
        else:
            self.requests.remove(request)
            self.linger(LINGER_TIME)

    # The end

    def linger(self, seconds: float) -> None:
        self._incoming = None
        self._held = False
        self._expecting = False
        super().linger(seconds)
