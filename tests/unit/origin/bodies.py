"""Request bodies whose pace the test decides."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer


@implementer(IBodyProducer)
@define(eq=False)
class Body:
    """A body that the test writes; ``events`` is what it was told."""

    length: Any = UNKNOWN_LENGTH
    events: list[str] = field(factory=list, init=False)
    consumer: Any = field(default=None, init=False)
    done: Deferred[None] = field(factory=Deferred, init=False)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.events.append("start")
        self.consumer = consumer
        return self.done

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")
