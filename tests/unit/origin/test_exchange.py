"""Exchanges over an in-memory transport."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.unit.origin.bodies import Body
from txglancecache.errors import OriginProtocolError, OriginTimeout, RequestBodyBroken
from txglancecache.origin.connection import CLOSING, OriginConnection
from txglancecache.origin.exchange import Exchange, StaleConnection, framed_request
from txglancecache.origin.framing import MAX_FIELDS, MAX_HEAD, MAX_INTERIM, Head
from txglancecache.origin.response import Response

TIMEOUT = 20
RATE = 0.1
HOST = [(b"Host", b"glance")]


@define(eq=False)
class Wire:
    """A connection to nowhere, and what its pool hears of it."""

    clock: Clock = field(factory=Clock)
    events: list[str] = field(factory=list)
    transport: Any = field(factory=StringTransport)
    connection: OriginConnection = field(init=False)
    interim: list[Head] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.connection = OriginConnection(
            self.clock,
            TIMEOUT,
            lambda _: self.events.append("released"),
            lambda _: self.events.append("gone"),
            RATE,
        )
        self.connection.makeConnection(self.transport)

    def begin(self, method: bytes = b"GET", body: Body | None = None) -> Deferred[Response]:
        request = framed_request(method, b"/v2", HOST, body)
        return Exchange(self.connection, request, self.interim.append).begin(body)

    def get(self, wire: bytes) -> Response:
        answer = self.begin()
        self.connection.dataReceived(wire)
        return result_of(answer)

    def lose(self, reason: Exception | None = None) -> None:
        self.connection.connectionLost(Failure(reason or ConnectionDone()))


def result_of(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "nothing yet"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_framing_follows_the_body_alone() -> None:
    """Whatever the headers say about it."""
    lies = [*HOST, (b"content-length", b"99"), (b"transfer-encoding", b"gzip"), (b"X-A", b"1")]
    host = (b"host", b"glance")
    assert list(framed_request(b"GET", b"/", lies, None).headers) == [host, (b"x-a", b"1")]
    sized = framed_request(b"PUT", b"/", lies, Body(length=7))
    assert list(sized.headers) == [host, (b"x-a", b"1"), (b"content-length", b"7")]
    chunked = framed_request(b"PUT", b"/", lies, Body())
    assert list(chunked.headers) == [host, (b"x-a", b"1"), (b"transfer-encoding", b"chunked")]
    with pytest.raises(h11.LocalProtocolError):
        framed_request(b"GET", b"/a b", HOST, None)


def test_a_small_answer_frees_the_connection_at_once(wire: Wire) -> None:
    """Before anyone has asked for its body."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert wire.transport.value() == b"GET /v2 HTTP/1.1\r\nHost: glance\r\n\r\n"
    assert wire.events == ["released"]
    assert wire.transport.producerState == "producing"
    response.abandon()
    response.stopProducing()
    assert response.detach() is None
    body: list[bytes] = []
    assert result_of(response.deliver(body.append)) is None
    assert body == [b"hello"]
    wire.begin()
    assert wire.connection.exchanges == 2


def test_nothing_is_read_until_the_body_is_asked_for(wire: Wire) -> None:
    """And then it comes as it arrives."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    assert response.length == 9
    assert wire.transport.producerState == "paused"
    wire.connection.dataReceived(b"cd")  # TLS had it decrypted already
    body: list[bytes] = []
    done = response.deliver(body.append)
    assert body == [b"ab", b"cd"]
    assert wire.transport.producerState == "producing"
    wire.connection.dataReceived(b"efghi")
    assert result_of(done) is None
    assert b"".join(body) == b"abcdefghi"
    assert wire.events == ["released"]
    with pytest.raises(RuntimeError):
        response.deliver(body.append)


def test_the_consumer_sets_the_pace(wire: Wire) -> None:
    """Pause and resume reach the transport, also when they come before or within the delivery."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    response.pauseProducing()
    done = response.deliver(lambda data: None)
    assert wire.transport.producerState == "paused"
    response.resumeProducing()
    assert wire.transport.producerState == "producing"
    response.pauseProducing()
    assert wire.transport.producerState == "paused"
    response.resumeProducing()
    wire.connection.dataReceived(b"cdefghi")
    assert result_of(done) is None
    response.pauseProducing()
    response.resumeProducing()
    assert wire.transport.producerState == "producing"


def test_resuming_does_not_begin_a_delivery(wire: Wire) -> None:
    """A consumer that is registered first resumes its producer as it likes."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    response.resumeProducing()
    assert wire.transport.producerState == "paused"


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_connection_that_is_not_kept_is_closed(wire: Wire, head: bytes) -> None:
    """In good order, and by force if the origin does not play along."""
    wire.get(head + b"Content-Length: 2\r\n\r\nab")
    assert wire.transport.disconnecting
    assert not wire.transport.disconnected
    wire.connection.dataReceived(b"too late")
    wire.clock.advance(CLOSING)
    assert wire.transport.disconnected
    wire.lose()
    assert wire.events == ["gone"]
    assert wire.clock.getDelayedCalls() == []


def test_more_than_was_asked_for(wire: Wire) -> None:
    """A connection with bytes nobody asked for is never used again."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n")
    assert wire.transport.disconnecting
    body: list[bytes] = []
    result_of(response.deliver(body.append))
    assert body == [b"ab"]


def test_speaking_without_being_asked(wire: Wire) -> None:
    """An idle connection that says something is aborted."""
    wire.connection.dataReceived(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert wire.transport.disconnected
    wire.lose()
    assert wire.events == ["gone"]


def test_interim_answers(wire: Wire) -> None:
    """Each is handed on as it comes."""
    answer = wire.begin()
    wire.connection.dataReceived(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: <x>\r\n\r\nHTT")
    assert wire.interim == [Head(100, b"Continue", ()), Head(103, b"Early", ((b"Link", b"<x>"),))]
    wire.connection.dataReceived(b"P/1.1 204 No Content\r\n\r\n")
    assert result_of(answer).head.status == 204


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nrubbish\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD,
    ],
)
def test_no_proper_answer(wire: Wire, rubbish: bytes) -> None:
    """Fails the request and aborts the connection."""
    answer = wire.begin()
    wire.connection.dataReceived(rubbish)
    with pytest.raises(OriginProtocolError):
        result_of(answer)
    assert wire.transport.disconnected


def test_closed_without_an_answer(wire: Wire) -> None:
    """By a new connection that is an error; a used one was stale."""
    answer = wire.begin()
    wire.lose()
    with pytest.raises(OriginProtocolError, match="without an answer") as caught:
        result_of(answer)
    assert not isinstance(caught.value, StaleConnection)

    used = Wire()
    used.get(b"HTTP/1.1 204 No Content\r\n\r\n")
    answer = used.begin()
    used.lose()
    with pytest.raises(StaleConnection):
        result_of(answer)


def test_closed_within_the_head(wire: Wire) -> None:
    """A used connection that has said something was not stale."""
    wire.get(b"HTTP/1.1 204 No Content\r\n\r\n")
    answer = wire.begin()
    wire.connection.dataReceived(b"HTTP/1.1 2")
    wire.lose()
    with pytest.raises(OriginProtocolError, match="within the head"):
        result_of(answer)


def test_a_connection_that_is_gone_already(wire: Wire) -> None:
    """An exchange on it fails, and does not wait for ever."""
    wire.lose()
    with pytest.raises(OriginProtocolError):
        result_of(wire.begin())
    with pytest.raises(ConnectionLost):
        result_of(wire.connection.secured())


def test_closed_within_the_body(wire: Wire) -> None:
    """What came is delivered, and then the failure."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    wire.lose()
    body: list[bytes] = []
    with pytest.raises(OriginProtocolError, match="7 bytes before the end of 9"):
        result_of(response.deliver(body.append))
    assert body == [b"ab"]


def test_a_body_until_close(wire: Wire) -> None:
    """Is whole when the origin closes in good order, and only then."""
    response = wire.get(b"HTTP/1.1 200 OK\r\n\r\nab")
    done = response.deliver(lambda data: None)
    wire.lose()
    assert result_of(done) is None

    reset = Wire()
    done = reset.get(b"HTTP/1.1 200 OK\r\n\r\nab").deliver(lambda data: None)
    reset.lose(ConnectionLost())
    with pytest.raises(OriginProtocolError):
        result_of(done)


def test_abandoned(wire: Wire) -> None:
    """Half a body that nobody wants costs the connection; its waiter sees a cancellation."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    done = response.deliver(lambda data: None)
    response.abandon()
    response.abandon()
    assert wire.transport.disconnected
    with pytest.raises(CancelledError):
        result_of(done)


def test_a_consumer_that_is_gone(wire: Wire) -> None:
    """Frees the connection; whoever awaits the delivery has to be cancelled, and then is."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    done = response.deliver(lambda data: None)
    response.stopProducing()
    assert wire.transport.disconnected
    assert not done.called
    done.cancel()
    with pytest.raises(CancelledError):
        result_of(done)


def test_cancelled_while_waiting_for_the_head(wire: Wire) -> None:
    """Aborts the connection and leaves no timer."""
    answer = wire.begin()
    answer.cancel()
    with pytest.raises(CancelledError):
        result_of(answer)
    assert wire.transport.disconnected
    wire.lose()
    assert wire.clock.getDelayedCalls() == []


def test_cancelled_within_the_body(wire: Wire) -> None:
    """Aborts the connection too."""
    done = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").deliver(lambda data: None)
    done.cancel()
    with pytest.raises(CancelledError):
        result_of(done)
    assert wire.transport.disconnected


def test_a_receiver_that_fails(wire: Wire) -> None:
    """Its own error ends the delivery."""

    def receive(data: bytes) -> None:
        raise ZeroDivisionError

    done = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").deliver(receive)
    with pytest.raises(ZeroDivisionError):
        result_of(done)
    assert wire.transport.disconnected


def test_a_receiver_that_has_enough(wire: Wire) -> None:
    """Gets no more once it has abandoned the response."""
    body: list[bytes] = []
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")

    def receive(data: bytes) -> None:
        body.append(data)
        response.abandon()

    done = response.deliver(receive)
    wire.connection.dataReceived(b"abcdefghi")
    with pytest.raises(CancelledError):
        result_of(done)
    assert body == [b"abcdefghi"]


def test_collecting(wire: Wire) -> None:
    """A small body in one piece; one that is longer than expected is refused."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    whole = Deferred.fromCoroutine(response.collect(4))
    wire.connection.dataReceived(b"2\r\ncd\r\n0\r\n\r\n")
    assert result_of(whole) == b"abcd"
    assert wire.events == ["released"]

    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde")
    with pytest.raises(OriginProtocolError, match="longer than 4 bytes"):
        result_of(Deferred.fromCoroutine(response.collect(4)))


def test_an_origin_that_never_answers(wire: Wire) -> None:
    """Is given up after the time set, counted from its last byte."""
    answer = wire.begin()
    wire.clock.advance(TIMEOUT - 1)
    wire.connection.dataReceived(b"HTTP/1.1 100 Continue\r\n\r\n")
    wire.clock.advance(TIMEOUT - 1)
    assert not answer.called
    wire.clock.advance(1)
    with pytest.raises(OriginTimeout, match="20 s"):
        result_of(answer)
    assert wire.transport.disconnected


def test_an_origin_that_stops_within_the_body(wire: Wire) -> None:
    """Times out, but not while it is the consumer that does not want more."""
    response = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    wire.clock.advance(10 * TIMEOUT)
    done = response.deliver(lambda data: None)
    wire.clock.advance(TIMEOUT - 1)
    response.pauseProducing()
    wire.clock.advance(10 * TIMEOUT)
    response.resumeProducing()
    wire.clock.advance(TIMEOUT - 1)
    assert not done.called
    wire.clock.advance(1)
    with pytest.raises(OriginTimeout):
        result_of(done)


def test_a_head_that_drips(wire: Wire) -> None:
    """Is no sign of life before it is whole: it gets the time set, and no more."""
    answer = wire.begin()
    for byte in b"HTTP/1.1 200 OK\r\nX: ":
        wire.connection.dataReceived(bytes([byte]))
        wire.clock.advance(1)
    with pytest.raises(OriginTimeout, match="20 s"):
        result_of(answer)
    assert wire.transport.disconnected


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5;x="],
    ids=["sized", "chunked"],
)
def test_a_body_that_drips(wire: Wire, head: bytes) -> None:
    """Is broken off when less comes than the least rate; what is not of the body does not count."""
    done = wire.get(b"HTTP/1.1 200 OK\r\n" + head).deliver(lambda data: None)
    for _ in range(19):
        wire.clock.advance(1)
        wire.connection.dataReceived(b"x" if b"Length" not in head or _ == 5 else b"")
    assert not done.called
    wire.clock.advance(1)
    with pytest.raises(OriginTimeout):
        result_of(done)


def test_floods(wire: Wire) -> None:
    """Neither fields nor interim answers may come without end."""
    answer = wire.begin()
    wire.connection.dataReceived(b"HTTP/1.1 103 Early Hints\r\n\r\n" * MAX_INTERIM)
    assert len(wire.interim) == MAX_INTERIM
    assert not answer.called
    wire.connection.dataReceived(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3)
    with pytest.raises(OriginProtocolError, match="interim"):
        result_of(answer)
    assert len(wire.interim) == MAX_INTERIM
    assert wire.transport.disconnected

    other = Wire()
    answer = other.begin()
    other.connection.dataReceived(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_FIELDS + 1) + b"\r\n")
    with pytest.raises(OriginProtocolError, match="501 fields"):
        result_of(answer)
    assert other.transport.disconnected


@pytest.mark.parametrize(
    "field", [b"X: a\rSet-Cookie: b", b"X: a\x00b", b"X : a", b"X y: a", b": a", b"\x00: a"], ids=repr
)
def test_fields_that_could_be_taken_for_others(wire: Wire, field: bytes) -> None:
    """Go to nobody: not a CR, a NUL, or a name that is none."""
    answer = wire.begin()
    wire.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + field + b"\r\n\r\n")
    with pytest.raises(OriginProtocolError):
        result_of(answer)


def test_a_field_in_lines(wire: Wire) -> None:
    """Is put on one (RFC 9112 section 5.2)."""
    response = wire.get(b"HTTP/1.1 204 No Content\r\nX: a\r\n  Set-Cookie: b\r\n\r\n")
    assert response.head.headers == ((b"X", b"a Set-Cookie: b"),)


def test_an_idle_connection_does_not_time_out(wire: Wire) -> None:
    """The pool decides how long it is kept."""
    wire.get(b"HTTP/1.1 204 No Content\r\n\r\n")
    wire.clock.advance(10 * TIMEOUT)
    assert not wire.transport.disconnected


def test_a_chunked_upload(wire: Wire) -> None:
    """Goes out piece by piece, and its end is written when the body says so."""
    body = Body()
    answer = wire.begin(b"PUT", body)
    body.consumer.write(b"hello")
    head, _, sent = wire.transport.value().partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert sent == b"5\r\nhello\r\n"
    assert wire.transport.producer is not None
    wire.transport.clear()
    body.done.callback(None)
    assert wire.transport.value() == b"0\r\n\r\n"
    assert wire.transport.producer is None
    wire.connection.dataReceived(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert result_of(answer).head.status == 204
    assert wire.transport.disconnecting


def test_a_sized_upload(wire: Wire) -> None:
    """Is not framed again."""
    body = Body(length=5)
    wire.begin(b"PUT", body)
    body.consumer.write(b"hello")
    body.done.callback(None)
    assert wire.transport.value().endswith(b"Content-Length: 5\r\n\r\nhello")


@pytest.mark.parametrize("length", [5, None])
def test_an_upload_that_breaks(wire: Wire, length: int | None) -> None:
    """Aborts the connection: the origin never sees an end that was none."""
    body = Body() if length is None else Body(length=length)
    answer = wire.begin(b"PUT", body)
    body.consumer.write(b"hel")
    body.done.errback(RequestBodyBroken(3))
    with pytest.raises(RequestBodyBroken, match="3 bytes"):
        result_of(answer)
    assert wire.transport.disconnected
    assert not wire.transport.value().endswith(b"0\r\n\r\n")


def test_an_upload_that_is_shorter_than_it_said(wire: Wire) -> None:
    """Is a broken one, whatever its producer thinks."""
    body = Body(length=5)
    answer = wire.begin(b"PUT", body)
    body.consumer.write(b"hel")
    body.done.callback(None)
    with pytest.raises(RequestBodyBroken):
        result_of(answer)
    assert wire.transport.disconnected


def test_an_upload_at_the_pace_of_the_origin(wire: Wire) -> None:
    """The transport pauses the body. An origin that takes nothing for too long times out."""
    body = Body()
    answer = wire.begin(b"PUT", body)
    wire.clock.advance(10 * TIMEOUT)  # the client's turn
    wire.transport.producer.pauseProducing()
    wire.clock.advance(TIMEOUT - 1)
    wire.transport.producer.resumeProducing()
    assert body.events == ["start", "pause", "resume"]
    wire.clock.advance(10 * TIMEOUT)
    wire.transport.producer.pauseProducing()
    assert not answer.called
    wire.clock.advance(TIMEOUT)
    with pytest.raises(OriginTimeout):
        result_of(answer)
    assert body.events[-1] == "stop"


def test_the_wait_for_an_answer_begins_after_the_upload(wire: Wire) -> None:
    """And then it is the origin's turn."""
    body = Body()
    answer = wire.begin(b"PUT", body)
    wire.clock.advance(10 * TIMEOUT)
    body.done.callback(None)
    wire.clock.advance(TIMEOUT - 1)
    assert not answer.called
    wire.clock.advance(1)
    with pytest.raises(OriginTimeout):
        result_of(answer)


def test_a_refusal_before_the_body_is_sent(wire: Wire) -> None:
    """Ends the upload; the answer is whole, and the connection is not used again."""
    body = Body()
    answer = wire.begin(b"PUT", body)
    body.consumer.write(b"hello")
    wire.connection.dataReceived(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nab")
    response = result_of(answer)
    assert body.events == ["start", "stop"]
    wire.transport.clear()
    body.consumer.write(b"more")
    assert wire.transport.value() == b""
    whole = Deferred.fromCoroutine(response.collect(10))
    wire.connection.dataReceived(b"cd")
    assert result_of(whole) == b"abcd"
    assert wire.transport.disconnected
    assert wire.events == []


def test_a_refusal_in_one_piece(wire: Wire) -> None:
    """Does not make the connection usable either: the origin still waits for the body."""
    answer = wire.begin(b"PUT", Body(length=5))
    wire.connection.dataReceived(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
    assert wire.transport.disconnected
    assert wire.events == []
    assert result_of(Deferred.fromCoroutine(result_of(answer).collect(10))) == b"no"


def test_nothing_follows_an_upload(wire: Wire) -> None:
    """On the same connection: an origin that has not read it would take it for the next request."""
    body = Body(length=2)
    answer = wire.begin(b"PUT", body)
    body.consumer.write(b"hi")
    body.done.callback(None)
    wire.connection.dataReceived(b"HTTP/1.1 204 No Content\r\n\r\n")
    result_of(answer)
    assert wire.events == []
    assert wire.transport.disconnecting


def test_an_answer_that_begins_before_the_end_of_the_body(wire: Wire) -> None:
    """A success does not end the upload; an answer that is over does."""
    body = Body()
    response_coming = wire.begin(b"POST", body)
    wire.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    response = result_of(response_coming)
    body.consumer.write(b"hello")
    assert wire.transport.value().endswith(b"5\r\nhello\r\n")
    done = response.deliver(lambda data: None)
    wire.connection.dataReceived(b"cd")
    assert result_of(done) is None
    assert body.events == ["start", "stop"]
    assert wire.transport.disconnected
    assert "released" not in wire.events


def test_an_upload_that_breaks_during_the_answer(wire: Wire) -> None:
    """Fails the delivery."""
    body = Body()
    answer = wire.begin(b"POST", body)
    wire.connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    done = result_of(answer).deliver(lambda data: None)
    body.done.errback(ZeroDivisionError())
    with pytest.raises(RequestBodyBroken):
        result_of(done)


def test_the_origin_closes_within_an_upload(wire: Wire) -> None:
    """The body is stopped."""
    body = Body()
    answer = wire.begin(b"PUT", body)
    wire.lose()
    with pytest.raises(OriginProtocolError):
        result_of(answer)
    assert body.events == ["start", "stop"]
    assert wire.clock.getDelayedCalls() == []


def test_only_a_socket_can_be_detached(wire: Wire) -> None:
    """Not an in-memory transport, and not a body in chunks."""
    assert wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab").detach() is None
    assert Wire().get(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").detach() is None
