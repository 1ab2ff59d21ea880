"""One connection to the origin, which carries one exchange after the other.

Owns the transport: when it is read, how long it may be silent, how it ends. What the bytes mean is for
whoever is at work on it, a `Receiver`. Knows nothing of the pool but the two calls it makes there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

import h11
from attrs import define, field
from twisted.internet import protocol
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from txglancecache.errors import OriginTimeout, OriginUnreachable
from txglancecache.origin.silence import Silence
from txglancecache.origin.tls import in_words
from txglancecache.origin.upload import Upload

#: How much one read takes, and how much of an upload may wait here before its producer is paused.
BUFFER = 256 * 1024

#: How many seconds an orderly close may take.
CLOSING = 5.0


class Receiver(Protocol):
    """Whoever is at work on a connection."""

    def received(self, data: bytes) -> None: ...

    def failed(self, error: Exception) -> None:
        """The connection is over, or about to be, because of ``error``."""

    def lost(self, clean: bool) -> None:
        """The origin ended the connection, in good order or not."""


@implementer(IHandshakeListener)
@define(eq=False, slots=False)
class OriginConnection(protocol.Protocol):
    """An HTTP/1.1 connection. ``receiver`` has it now, ``exchanges`` counts those that had it ever.

    While it is the origin's turn, it has ``timeout`` seconds for the head of an answer, and as long for each
    piece of a body, of which there have to come ``min_rate`` bytes a second.
    """

    _clock: IReactorTime
    _timeout: float
    _released: Callable[[OriginConnection], None]
    _gone: Callable[[OriginConnection], None]
    _min_rate: float = 0.0
    receiver: Receiver | None = field(default=None, init=False)
    exchanges: int = field(default=0, init=False)
    lost: bool = field(default=False, init=False)
    _handshake: Deferred[None] = field(factory=Deferred, init=False)
    _wire: Any = field(default=None, init=False)  # no interface has all that every stream transport has
    _upload: Upload | None = field(default=None, init=False)
    _spare: socket.socket | None = field(default=None, init=False)
    _held: bool = field(default=False, init=False)
    _ending: bool = field(default=False, init=False)
    _closing: IDelayedCall | None = field(default=None, init=False)
    _silence: Silence = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._silence = Silence(self._clock, self._timeout, self._min_rate, self._timed_out)

    @property
    def usable(self) -> bool:
        """Whether it has neither ended nor is about to."""
        return not (self._ending or self.lost)

    def secured(self) -> Deferred[None]:
        """Fires when TLS is up, or fails as it did."""
        return fail(ConnectionLost()) if self.lost else self._handshake

    # What an exchange does with it

    def take(self, receiver: Receiver) -> None:
        """A new exchange begins; ``receiver`` gets what comes."""
        self.exchanges += 1
        self.receiver = receiver
        self._upload = None
        self._attend()

    def send(self, data: bytes | None) -> None:
        if data:
            self._wire.write(data)

    def send_body(self, framing: h11.Connection, body: IBodyProducer, expecting: bool) -> Deferred[None]:
        """Sends a request's body; silence does not count while the origin is taking it.

        :param expecting: the body does not begin before the origin has said that it may.
        """
        self._spare = self._second_handle()
        self._upload = Upload(self._wire, framing, body, self._attend, expecting)
        sent = self._upload.start()
        self._attend()
        return sent

    def stop_upload(self) -> None:
        """The rest of the request body is not wanted."""
        if self._upload is not None:
            self._upload.stop()
            self._attend()

    def heard(self, count: int) -> None:
        """What came had ``count`` bytes of a body in it."""
        self._silence.heard(count)

    def heard_interim(self) -> None:
        """What came was an answer, if not the last. Of a head, nothing counts before it is whole."""
        self._silence.begin_anew()
        if self._upload is not None:
            self._upload.begins()

    def hold(self) -> None:
        """Reads no more; the origin waits."""
        if not self._held and self.usable:
            self._held = True
            self._wire.pauseProducing()
            self._attend()

    def read(self) -> None:
        """Reads on."""
        if self._held and self.usable:
            self._held = False
            self._wire.resumeProducing()
            self._attend()

    def finish(self, reusable: bool) -> None:
        """The exchange is over."""
        self.receiver = None
        self._attend()
        if self.lost:
            return
        if self._owes_body:
            self.abort()
        elif reusable and self._upload is None:
            # An origin that did not read a body would take it for the next request, which is somebody else's.
            self._drop_spare()
            self.read()
            self._released(self)
        else:
            self.close()

    def detach(self) -> socket.socket | None:
        """A second handle of the socket, for others to read; nobody reads it here any more."""
        handle = None if self._owes_body or self.lost else self._second_handle()
        if handle is not None:
            self.hold()
            self._end()
            self._drop_spare()
        return handle

    def fail(self, error: Exception) -> None:
        """Aborts the connection, and tells whoever has it why."""
        receiver = self.receiver
        self.abort()
        if receiver is not None:
            receiver.failed(error)

    def abort(self) -> None:
        """Resets the connection, so that the origin cannot take what it got for a whole request."""
        self._end()
        self._drop_spare()
        if not self.lost:
            self._wire.abortConnection()

    def close(self) -> None:
        """Closes the connection in good order."""
        if self.usable:
            self.read()
            self._end()
            self._closing = self._clock.callLater(CLOSING, self._wire.abortConnection)
            self._wire.loseConnection()

    # What the transport says

    def connectionMade(self) -> None:
        self._wire = self.transport
        if ITCPTransport.providedBy(self._wire):
            self._wire.setTcpNoDelay(True)
            self._wire.setTcpKeepAlive(True)
        if self._socket() is not None:
            self._wire.bufferSize = BUFFER  # not part of any interface, but all of twisted.internet has it

    def handshakeCompleted(self) -> None:
        if not self._handshake.called:
            self._handshake.callback(None)

    def dataReceived(self, data: bytes) -> None:
        if self.receiver is not None:
            self.receiver.received(data)
        elif not self._ending:
            self.abort()  # nobody has asked for anything

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        clean = isinstance(reason.value, ConnectionDone)
        if self._spare is not None:
            clean = self._read_spare(self._spare)
            self._drop_spare()
        self.stop_upload()
        self._silence.stop()
        if not self._handshake.called:
            self._handshake.addErrback(lambda _: None)  # nobody may have asked
            self._handshake.errback(reason)
        receiver, self.receiver = self.receiver, None
        trouble = in_words(reason.value)
        if receiver is None:
            pass
        elif trouble is None:
            receiver.lost(clean)
        else:  # TLS 1.3 refuses a client's certificate only after the handshake
            receiver.failed(OriginUnreachable(f"no TLS with the origin: {trouble}"))
        self._gone(self)

    # Inside

    @property
    def _owes_body(self) -> bool:
        """Whether the origin was promised a body and has not had all of it."""
        return self._upload is not None and not self._upload.finished

    def _attend(self) -> None:
        """Silence counts while somebody wants to read and the origin is not busy taking an upload."""
        taking = self._upload is not None and self._upload.is_taken
        if self.receiver is None or self.lost or self._held or taking:
            self._silence.ignore()
        else:
            self._silence.listen()

    def _timed_out(self, complaint: str) -> None:
        self.fail(OriginTimeout(complaint))

    def _end(self) -> None:
        self._ending = True
        self.receiver = None
        self._silence.stop()
        self.stop_upload()

    def _socket(self) -> socket.socket | None:
        """The socket, on plain TCP."""
        handle = getattr(self._wire, "getHandle", lambda: None)()
        return handle if isinstance(handle, socket.socket) else None

    def _second_handle(self) -> socket.socket | None:
        handle = self._socket()
        try:
            return None if handle is None else handle.dup()
        except OSError:  # no descriptor left; there is a way without
            return None

    def _read_spare(self, spare: socket.socket) -> bool:
        """Reads what the origin said before it reset the connection within an upload.

        An origin that refuses a body early answers and closes. The reset makes the next write fail, and
        the transport then closes without having read the answer, which the kernel still has.
        """
        try:
            while self.receiver is not None and (data := spare.recv(BUFFER)):
                self.receiver.received(data)
        except OSError:
            return False
        return True

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
