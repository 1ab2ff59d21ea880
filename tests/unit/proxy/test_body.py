"""Request bodies on their way in."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from txglancecache.errors import RequestBodyBroken
from txglancecache.proxy.body import IncomingBody


@define(eq=False)
class Consumer:
    """Takes a body, and stops or pauses it once it has had enough."""

    body: IncomingBody
    data: bytes = b""
    enough: int = 1000
    then: str = "pauseProducing"
    results: list[Any] = field(factory=list)

    def write(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self.enough:
            getattr(self.body, self.then)()

    def start(self) -> None:
        done: Deferred[None] = self.body.startProducing(self)
        done.addBoth(self.results.append)


@pytest.fixture
def reads() -> list[bool]:
    return []


@pytest.fixture
def body(reads: list[bool]) -> IncomingBody:
    return IncomingBody(10, lambda _, wanted: reads.append(wanted))


@pytest.fixture
def consumer(body: IncomingBody) -> Consumer:
    return Consumer(body)


def test_is_what_a_request_needs(body: IncomingBody) -> None:
    """Twisted's interface for request bodies."""
    assert verifyObject(IBodyProducer, body)


def test_waits_for_a_consumer(body: IncomingBody, consumer: Consumer, reads: list[bool]) -> None:
    """What came with the head is kept, and nothing is read before somebody wants it."""
    body.feed(b"abc")
    assert reads == []
    consumer.start()
    assert reads == [True]
    assert consumer.data == b"abc"
    body.feed(b"def")
    assert consumer.data == b"abcdef"
    assert consumer.results == []
    body.end()
    assert consumer.results == [None]


def test_complete_before_it_is_started(body: IncomingBody, consumer: Consumer, reads: list[bool]) -> None:
    """A small body is all there."""
    body.feed(b"abc")
    body.end()
    consumer.start()
    assert consumer.data == b"abc"
    assert consumer.results == [None]
    assert reads == []


def test_empty(body: IncomingBody, consumer: Consumer) -> None:
    """Is a body too."""
    body.end()
    consumer.start()
    assert consumer.results == [None]


def test_paused(body: IncomingBody, consumer: Consumer, reads: list[bool]) -> None:
    """The client's socket is not read; what had been read goes out after the pause."""
    consumer.start()
    body.pauseProducing()
    body.feed(b"abc")
    body.feed(b"def")
    body.end()
    assert consumer.data == b""
    assert consumer.results == []
    body.resumeProducing()
    assert consumer.data == b"abcdef"
    assert consumer.results == [None]
    assert reads == [True, False]


def test_paused_again_within_what_was_kept(body: IncomingBody, consumer: Consumer, reads: list[bool]) -> None:
    """Goes out only as far as the consumer wants."""
    body.feed(b"abc")
    body.feed(b"def")
    consumer.enough = 3
    consumer.start()
    assert consumer.data == b"abc"
    assert reads[-1] is False
    consumer.enough = 1000
    body.resumeProducing()
    assert consumer.data == b"abcdef"
    assert reads[-1] is True


def test_stopped(body: IncomingBody, consumer: Consumer, reads: list[bool]) -> None:
    """Swallows the rest, so that the client can finish."""
    consumer.start()
    body.feed(b"abc")
    body.pauseProducing()
    body.feed(b"def")
    body.stopProducing()
    assert reads[-1] is True
    assert body.discarding
    body.feed(b"ghi")
    body.end()
    assert consumer.data == b"abc"
    assert consumer.results == []
    assert body.received == 9


def test_stopped_within_what_was_kept(body: IncomingBody, consumer: Consumer) -> None:
    """Nothing more comes."""
    body.feed(b"abc")
    body.feed(b"def")
    consumer.enough, consumer.then = 3, "stopProducing"
    consumer.start()
    assert consumer.data == b"abc"


@pytest.mark.parametrize("paused", [False, True])
def test_broken_off(body: IncomingBody, consumer: Consumer, paused: bool) -> None:
    """Fails, and says how much had come; what is kept is not the whole and not worth sending."""
    consumer.start()
    if paused:
        body.pauseProducing()
    body.feed(b"abc")
    body.break_off()
    body.break_off()
    (failure,) = consumer.results
    assert isinstance(failure, Failure)
    assert isinstance(failure.value, RequestBodyBroken)
    assert failure.value.received == 3


def test_broken_off_before_it_is_started(body: IncomingBody, consumer: Consumer) -> None:
    """Fails when it is."""
    body.feed(b"abc")
    body.break_off()
    consumer.start()
    assert consumer.data == b""
    assert isinstance(consumer.results[0], Failure)


def test_broken_off_after_the_end(body: IncomingBody, consumer: Consumer) -> None:
    """A client may leave when it has sent everything."""
    body.feed(b"abc")
    body.end()
    body.break_off()
    consumer.start()
    assert consumer.results == [None]


def test_broken_off_after_it_was_stopped(body: IncomingBody, consumer: Consumer) -> None:
    """Concerns nobody any more."""
    consumer.start()
    body.stopProducing()
    body.break_off()
    assert consumer.results == []
