"""A site's end of a client's connection: what is read of it, and how long it is waited for.

Twisted's `HTTPChannel` with these differences:

- a head that two parsers could read differently is refused (RFC 9112 section 11.2), and so is one that is too
  large, each with the status that says so;
- nobody is waited for for ever: not for a head, however slowly it goes on coming, nor for a body or for an
  answer to be taken, nor while nothing is asked;
- of requests that are sent without waiting for answers a few are answered per turn of the reactor;
- whoever is refused while still sending can read the answer before the connection is closed.

`HTTPChannel` was not made for this. What is used of its inside, attributes and methods with an underscore, is
used here and in the channels that are made of this one, only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IAddress, IDelayedCall, ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from txglancecache.clients.identity import client_of
from txglancecache.clients.refusals import Refusal
from txglancecache.clients.sockets import ClientSocket, Taking
from txglancecache.deadline import Deadline
from txglancecache.headers import is_host

#: How long, in seconds, and how much, in bytes, a client that has had its answer may go on sending.
LINGER_TIME = 30.0
LINGER_SIZE = 1 << 30
#: The time for one that has been refused.
REFUSED_TIME = 5.0
#: How long, in seconds, a connection that is closed may take, once its client has all that was for it.
CLOSING_TIME = 15.0

#: How many requests of one connection are answered before others have their turn.
_PER_TURN = 8

#: Control characters but for the tab: none of them belongs into a head (RFC 9110 section 5.5).
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")

_HTTPChannel: Any = HTTPChannel  # next to nothing of it has types


class ClientChannel(_HTTPChannel):  # type: ignore[misc]  # see above
    """One connection of a `ClientSite`."""

    site: Any
    requests: list[Any]
    transport: Any

    _deadline: Deadline
    _stall: Deadline
    _socket: ClientSocket
    _taking: Taking
    _peer: IAddress | None = None
    _host: IAddress | None = None
    _begun = False
    _client: str | None = None
    _body_awaited = False
    _body_received = 0
    _parsing = False
    _answered = 0
    _breath: IDelayedCall | None = None
    _swallowed: int | None = None

    # The connection

    def connectionMade(self) -> None:
        limits, clock = self.site.turnstile.limits, self.site.reactor
        self.MAX_LENGTH = limits.line_size
        self.totalHeadersSize = limits.head_size
        self.maxHeaders = limits.head_fields
        self._deadline, self._stall = Deadline(clock), Deadline(clock)
        self._socket = ClientSocket.of(self.transport)
        self._socket.expect_signs_of_life(limits.stall_timeout)
        self._taking = Taking(self._socket, max(1, int(limits.min_rate * limits.stall_timeout)))
        self.site.turnstile.entered(self)
        super().connectionMade()
        self._deadline.set(limits.head_timeout, self._nothing_comes)
        self._stall.set(limits.stall_timeout, self._look_at_taking)

    def connectionLost(self, reason: Failure) -> None:
        self._deadline.end()
        self._stall.end()
        if self._breath is not None:
            self._breath.cancel()
        self._request_over()
        self.site.turnstile.left(self)
        super().connectionLost(reason)

    def getPeer(self) -> IAddress:
        """Asked for with each request, and the same for all of them."""
        if self._peer is None:
            self._peer = super().getPeer()
        return self._peer

    def getHost(self) -> IAddress:
        """As `getPeer`; the kernel would be asked each time."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def give_way(self) -> bool:
        """Close, unless the client is still taking the last answer."""
        if self._socket.untaken():
            return False
        self.transport.abortConnection()
        return True

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
        if outer or self.paused or not self.line_mode or not self._buffer:
            return
        self._head_begins()
        if b"\n" in self._buffer:
            self.refuse(Refusal.MALFORMED)  # a line that ends with LF alone

    def _head_begins(self) -> None:
        if not self._begun:
            self._begun = True
            self.site.turnstile.busy(self)
            self._deadline.set(self.site.turnstile.limits.head_timeout, self._head_is_late)

    def lineReceived(self, line: bytes) -> None:
        if self._swallowed is not None:
            return
        if not self._begun:
            self._head_begins()
        if line[:1] in (b" ", b"\t") or _CONTROL.search(line):
            self.refuse(Refusal.MALFORMED)
        elif self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self.refuse(Refusal.LARGE_HEAD)
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        # The request is made when its first line is in.
        self.refuse(Refusal.LARGE_HEAD if self.requests else Refusal.LONG_LINE)

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        if self._swallowed is not None:
            return False
        if self._receivedHeaderCount >= self.maxHeaders:
            self.refuse(Refusal.LARGE_HEAD)
            return False
        if not self._framing_is_plain(name.lower(), value):
            self.refuse(Refusal.MALFORMED)
            return False
        if not super().headerReceived(line):
            return False
        self.field_received(name, value)
        return True

    def field_received(self, name: bytes, value: bytes) -> None:
        """A header field as the client spelt it."""

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
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        hosts_needed = 1 if self._version == b"HTTP/1.1" else 0
        if not hosts_needed <= len(hosts) <= 1 or not all(map(is_host, hosts)):
            self.refuse(Refusal.MALFORMED)
            return
        self._deadline.clear()
        if self._may_ask(request):
            self.head_received(request)

    def head_received(self, request: Any) -> None:
        """All of the head is in, and there is nothing wrong with it."""
        super().allHeadersReceived()
        self.await_body(self.length != 0)

    def _may_ask(self, request: Any) -> bool:
        if self.site.is_exempt(self._path):
            return True
        client = self._name_of_client(request)
        if self.site.turnstile.begin(client):
            self._client = client
            return True
        self.refuse(Refusal.TOO_MANY_REQUESTS)
        return False

    def _name_of_client(self, request: Any) -> str:
        address = getattr(request.client, "host", "")
        said = request.requestHeaders.getRawHeaders
        return client_of(address, said(b"X-Forwarded-For", []), said(b"Forwarded", []), self.site.is_trusted)

    def _nothing_comes(self) -> None:
        if self._waitingForTransport:
            self._wait_for_taking(self._nothing_comes)
        else:
            self.loseConnection()

    def _head_is_late(self) -> None:
        if self._waitingForTransport:
            self._wait_for_taking(self._head_is_late)
        else:
            self.refuse(Refusal.SLOW_HEAD)

    def _wait_for_taking(self, call: Callable[[], None]) -> None:
        # It cannot go on: nothing is read until the client has taken the answers that it has asked for.
        self._deadline.set(self.site.turnstile.limits.head_timeout, call)

    # The body

    def await_body(self, awaited: bool) -> None:
        """Whether it is the client that everybody is waiting for."""
        if awaited == self._body_awaited:
            return
        self._body_awaited = awaited
        if awaited:
            self._give_time_for_body()
        else:
            self._deadline.clear()

    def _give_time_for_body(self) -> None:
        self._body_received = 0
        self._deadline.set(self.site.turnstile.limits.body_timeout, self._look_at_body)

    def _look_at_body(self) -> None:
        limits = self.site.turnstile.limits
        if self._body_received < max(1, limits.min_rate * limits.body_timeout):
            self.refuse(Refusal.SLOW_BODY)
        else:
            self._give_time_for_body()

    def rawDataReceived(self, data: bytes) -> None:
        if self._swallowed is not None:
            self._swallow(len(data))
            return
        self._body_received += len(data)
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        if self._swallowed is not None:
            return
        trailers = getattr(self._transferDecoder, "_trailerHeaders", ())
        if any(map(_CONTROL.search, trailers)):
            self.refuse(Refusal.MALFORMED)
            return
        self.await_body(False)
        super().allContentReceived()

    # The answer

    def _look_at_taking(self) -> None:
        if self._taking.goes_on():
            self._stall.set(self.site.turnstile.limits.stall_timeout, self._look_at_taking)
        else:
            self.stalled()

    def stalled(self) -> None:
        """The client takes nothing of its answer: it is cut off."""
        self._tell(Refusal.STALLED)
        self.transport.abortConnection()

    def requestDone(self, request: Any) -> None:
        self._request_over()
        if self.persistent:
            # First, because the next request may be in already.
            self._begun = False
            self.site.turnstile.idle(self)
            self._deadline.set(self.site.turnstile.limits.idle_timeout, self._nothing_comes)
            self._take_turns()
        super().requestDone(request)
        self._wait_for_turn()

    def _take_turns(self) -> None:
        """Once enough is answered, leave what is in until the next turn, and read no more until then; or
        until the client has taken the answers: what it does not take is kept in memory."""
        self._answered += 1
        if self._waitingForTransport:
            self.paused = True
        elif self._answered >= _PER_TURN:
            self._take_breath()

    def _take_breath(self) -> None:
        self.paused = True
        if self._breath is None:
            self._breath = self.site.reactor.callLater(0, self._go_on)

    def _wait_for_turn(self) -> None:
        if self.paused:
            self._networkProducer.pauseProducing()

    def _go_on(self) -> None:
        self._breath = None
        self._answered = 0
        if self._waitingForTransport:
            return
        self.paused = False
        if not self._handlingRequest:
            self._networkProducer.resumeProducing()
        self.dataReceived(b"")

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self.paused:
            self._take_breath()
        self._wait_for_turn()

    def _request_over(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self.site.turnstile.end(client)

    # The end

    @property
    def refused(self) -> bool:
        """Whether the client has had its last answer: what it still sends is not looked at."""
        return self._swallowed is not None

    def refuse(self, refusal: Refusal, fields: bytes = b"") -> None:
        """Answer a request that is not going to be, and say that this was the last."""
        if self._swallowed is not None:
            return
        self._tell(refusal)
        request = self.requests[-1] if self.requests else None
        self.requests = []
        if request is not None and request.startedWriting:
            self.transport.abortConnection()
        else:
            self.transport.write(refusal.answer(fields))
        self.linger(REFUSED_TIME)
        if request is not None:
            # For whoever is working on it, the client is gone.
            request.connectionLost(Failure(ConnectionAborted()))

    def _tell(self, refusal: Refusal) -> None:
        self.site.turnstile.refusals.note(refusal, getattr(self.transport.getPeer(), "host", ""))

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(Refusal.MALFORMED)

    def linger(self, seconds: float) -> None:
        """Close when the client has taken its answer.

        Were the socket closed while the client is sending, the kernel would reset the connection, and the
        answer could be lost on the way. So only this side is closed, and what still comes is thrown away.
        """
        transport: Any = self.transport
        self._swallowed = 0
        self._body_awaited = False
        self._request_over()
        self.site.turnstile.busy(self)
        self._networkProducer.unregisterProducer()
        if not ISSLTransport.providedBy(transport) and hasattr(transport, "loseWriteConnection"):
            transport.loseWriteConnection()
        self._networkProducer.resumeProducing()
        self._deadline.set(seconds, transport.abortConnection)

    def _swallow(self, count: int) -> None:
        assert self._swallowed is not None
        self._swallowed += count
        if self._swallowed > LINGER_SIZE:
            self.transport.abortConnection()

    def loseConnection(self) -> None:
        super().loseConnection()
        self._deadline.set(CLOSING_TIME, self._still_here)

    def _still_here(self) -> None:
        if self._socket.untaken() and self._socket.taken() is not None:
            # It is still taking what there is for it, or its time for that is going to be up.
            self._deadline.set(CLOSING_TIME, self._still_here)
        else:
            self.transport.abortConnection()
