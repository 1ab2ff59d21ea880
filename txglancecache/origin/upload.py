"""A request body on its way to the origin: h11's framing, at the pace of the origin's connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer


@implementer(IConsumer, IPushProducer)
@define(eq=False)
class Upload:
    """Stands between a body and the transport; ``stalled`` while the origin takes no more.

    ``expecting``: whoever sends the body first waits for the origin's word that it may (RFC 9110 section
    10.1.1), unless that takes too long.
    """

    _transport: Any  # an ITransport that is an IConsumer too, as all are; there is no interface for both
    _framing: h11.Connection
    _body: IBodyProducer
    _changed: Callable[[], None]
    expecting: bool
    under_way: bool = field(default=False, init=False)
    finished: bool = field(default=False, init=False)
    stalled: bool = field(default=False, init=False)

    def start(self) -> Deferred[None]:
        """Fires when the whole body has been written, or fails as the body did; never after `stop`."""
        self.under_way = True
        self._transport.registerProducer(self, True)
        sent: Deferred[None] = maybeDeferred(self._body.startProducing, self)
        return sent.addCallbacks(self._end, self._break)

    def stop(self) -> None:
        """The rest of the body is not wanted any more."""
        if self.under_way:
            self.under_way = False
            self._transport.unregisterProducer()
            self._body.stopProducing()

    @property
    def is_taken(self) -> bool:
        """Whether the origin has something to do that is not to answer."""
        return self.under_way and not (self.stalled or self.expecting)

    def begins(self) -> None:
        """Nobody waits for a word any more."""
        if self.expecting:
            self.expecting = False
            self._changed()

    def _end(self, _: None) -> None:
        self._break(None)
        self._transport.write(self._framing.send(h11.EndOfMessage()))
        self.finished = True
        self._changed()

    def _break(self, failure: Failure | None) -> Failure | None:
        self.under_way = False
        self._transport.unregisterProducer()
        return failure

    # For the body

    def write(self, data: bytes) -> None:
        self.begins()
        if self.under_way:
            framed = self._framing.send_with_data_passthrough(h11.Data(data=data))
            self._transport.writeSequence(framed)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """A body is paused and resumed by itself, without registering."""

    def unregisterProducer(self) -> None:
        """See `registerProducer`."""

    # For the transport

    def pauseProducing(self) -> None:
        self.stalled = True
        self._body.pauseProducing()
        self._changed()

    def resumeProducing(self) -> None:
        self.stalled = False
        self._changed()
        self._body.resumeProducing()

    def stopProducing(self) -> None:
        self.stop()
