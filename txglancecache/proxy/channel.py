"""The data site's end of a client's connection.

Twisted's `HTTPChannel` with these differences:

- a request is processed as soon as its head is in, and its body handed on as it comes, while the consumer
  of the body decides when the socket is read;
- nobody but the origin says ``100 Continue``;
- a head that two parsers could read differently is refused (RFC 9112 section 11.2);
- a client that is answered before it has sent everything gets the whole answer, although it is still
  sending when the connection is closed.

`HTTPChannel` was not made for the first and the last of these. What is used of its inside, attributes and
methods with an underscore, is used in this module only.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers

from txglancecache.headers import values, without
from txglancecache.proxy.body import IncomingBody
from txglancecache.proxy.target import Target, is_host

#: How long, in seconds, and how much, in bytes, a client that has had its answer may go on sending.
LINGER_TIME = 30.0
LINGER_SIZE = 1 << 30

#: Control characters but for the tab: none of them belongs into a head (RFC 9110 section 5.5).
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")

#: What this proxy forwards; an answer of its own that names methods names these. It forwards others too.
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"

_BAD_REQUEST = b"400 Bad Request"

_HTTPChannel: Any = HTTPChannel  # next to nothing of it has types


class DataChannel(_HTTPChannel):  # type: ignore[misc]  # see above
    """Feeds `DataRequest`s."""

    #: Tokens in a header field can be long, and so can be a list of filters in a query.
    MAX_LENGTH = 64 * 1024
    totalHeadersSize = 128 * 1024

    requests: list[Any]
    transport: Any

    _incoming: IncomingBody | None = None
    _held = False
    _held_timeout: float | None = None
    _parsing = False
    _swallowed: int | None = None
    _linger_call: IDelayedCall | None = None

    # The head

    def dataReceived(self, data: bytes) -> None:
        if self._swallowed is not None:
            self._swallow(len(data))
            return
        outer, self._parsing = self._parsing, True
        try:
            super().dataReceived(data)
        finally:
            self._parsing = outer
        if not outer and self.line_mode and b"\n" in self._buffer:
            self.refuse(_BAD_REQUEST)  # a line that ends with LF alone

    def lineReceived(self, line: bytes) -> None:
        if self._swallowed is not None:
            return
        if line[:1] in (b" ", b"\t") or _CONTROL.search(line):
            self.refuse(_BAD_REQUEST)
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(b"431 Request Header Fields Too Large")

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        if self._swallowed is not None or not self._framing_is_plain(name.lower(), value):
            self.refuse(_BAD_REQUEST)
            return False
        if not super().headerReceived(line):
            return False
        self.requests[-1].raw_headers.append((name, value))
        return True

    def _framing_is_plain(self, name: bytes, value: bytes) -> bool:
        """Twisted refuses both length and coding, and more than one of either; and this."""
        if name == b"content-length":
            return _LENGTH.fullmatch(value) is not None
        if name == b"transfer-encoding":
            return value.lower() == b"chunked" and self._version == b"HTTP/1.1"
        return True

    def allHeadersReceived(self) -> None:
        if self._swallowed is not None:
            return
        request = self.requests[-1]
        if self._command == b"CONNECT":
            self.refuse(b"405 Method Not Allowed", b"Allow: " + METHODS + b"\r\n")
            return
        hosts = values(request.raw_headers, b"Host")
        hosts_needed = 1 if self._version == b"HTTP/1.1" else 0
        try:
            target = Target.parse(self._command, self._path)
        except ValueError:
            self.refuse(_BAD_REQUEST)
            return
        if not hosts_needed <= len(hosts) <= 1 or not all(map(is_host, hosts)):
            self.refuse(_BAD_REQUEST)
            return
        self.persistent = self.checkPersistence(request, self._version)
        request.gotLength(self.length)
        request.head_received(self._command, target, self._version)
        if self.length != 0:
            self._incoming = request.body
            self.read_body(request.body, False)
            request.process()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        options = b",".join(values(request.raw_headers, b"Connection")).lower().split(b",")
        return version == b"HTTP/1.1" and b"close" not in (option.strip(b" \t") for option in options)

    # The body

    def read_body(self, body: IncomingBody, wanted: bool) -> None:
        """The consumer of ``body`` wants more of it, or wants the client to wait."""
        if body is not self._incoming:
            return
        if wanted == self._held:
            self._held = not wanted
            # While it is not the client that keeps us waiting, it is not idle.
            self._held_timeout = self.setTimeout(self._held_timeout if wanted else None)
        self._read_or_wait(body)

    def _read_or_wait(self, body: IncomingBody) -> None:
        # A client that does not take its answer is not read either, as in HTTPChannel. But many a client
        # takes an answer only when it has sent everything, even if nobody wants that any more.
        if not self._held and (body.discarding or not self._waitingForTransport):
            self._networkProducer.resumeProducing()
        else:
            self._networkProducer.pauseProducing()

    def rawDataReceived(self, data: bytes) -> None:
        if self._swallowed is not None:
            self._swallow(len(data))
        else:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        if self._swallowed is not None:
            return
        if self._incoming is not None:
            self.read_body(self._incoming, True)
            self._incoming = None
        super().allContentReceived()

    # The answer

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """With the request's own ``verbatim`` fields, unless ``headers`` has them too."""
        own = dict(headers.getAllRawHeaders())
        head = [version, b" ", code, b" ", reason, b"\r\n"]
        for name, value in without(self.requests[0].verbatim, *own):
            head += (name, b": ", value, b"\r\n")
        for name, found in own.items():
            for value in found:
                head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n")
        self.transport.writeSequence(head)

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
            self._linger()

    # The end

    def refuse(self, status: bytes, fields: bytes = b"") -> None:
        """Answers a request that cannot be understood, and says that this was the last."""
        if self._swallowed is not None:
            return
        request = self.requests[-1] if self.requests else None
        self.requests = []
        if request is not None and request.startedWriting:
            self.transport.abortConnection()
        else:
            head = b"HTTP/1.1 %s\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n"
            self.transport.write(head % (status, fields))
        self._linger()
        if request is not None:
            # For whoever is working on it, the client is gone.
            request.connectionLost(Failure(ConnectionAborted()))

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(_BAD_REQUEST)

    def _linger(self) -> None:
        """Closes when the client has taken its answer.

        Were the socket closed while the client is sending, the kernel would reset the connection, and the
        answer could be lost on the way. So only this side is closed, and what still comes is thrown away.
        """
        transport: Any = self.transport
        self._swallowed = 0
        self._incoming = None
        self._held = False
        self.setTimeout(None)
        self._networkProducer.unregisterProducer()
        if not ISSLTransport.providedBy(transport) and hasattr(transport, "loseWriteConnection"):
            transport.loseWriteConnection()
        self._networkProducer.resumeProducing()
        self._linger_call = self.callLater(LINGER_TIME, transport.abortConnection)

    def _swallow(self, count: int) -> None:
        assert self._swallowed is not None
        self._swallowed += count
        if self._swallowed > LINGER_SIZE:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        if self._linger_call is not None and self._linger_call.active():
            self._linger_call.cancel()
        super().connectionLost(reason)
