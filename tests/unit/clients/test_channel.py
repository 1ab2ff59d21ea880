"""How long clients are waited for, and how much they may say."""

from __future__ import annotations

import pytest
from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Request

from tests.unit.clients.site import GET, Client, Server
from txglancecache.clients import channel
from txglancecache.clients.channel import CLOSING_TIME, REFUSED_TIME
from txglancecache.clients.limits import Limits
from txglancecache.clients.refusals import Refusal

SMALL = Limits(line_size=1000, head_size=3000, head_fields=5)


@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        (b"GET /" + b"a" * 1000, 414, "long_request_line"),
        (b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n", 414, "long_request_line"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 1100, 431, "large_head"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 2000 + b"\r\n", 431, "large_head"),
        (b"GET / HTTP/1.1\r\n" + (b"X: " + b"a" * 900 + b"\r\n") * 4, 431, "large_head"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 7, 431, "large_head"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5 + b"\r\n", 431, "large_head"),
        (b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
    ],
)
def test_heads_that_are_too_large(head: bytes, status: int, reason: str) -> None:
    """Are refused with the status that says why, as soon as it is known, however they come in."""
    for pieces in ([head], [head[n : n + 1] for n in range(len(head))]):
        server = Server(SMALL)
        client = server.connect(*pieces)
        assert client.status == status
        assert b"Connection: close\r\n" in client.got
        assert client.closed
        assert server.told.reasons == [reason]
        client.send(GET)
        assert server.resource.asked == []


def test_a_head_as_large_as_it_may_be() -> None:
    """Is read."""
    server = Server(SMALL)
    server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"a" * 700 + b"\r\n") * 4 + b"\r\n")
    assert server.resource.asked == [b"/now"]


def test_a_head_that_goes_on_coming() -> None:
    """Is given up after the time for all of it, however steadily it comes."""
    server = Server(Limits(head_timeout=30))
    client = server.connect()
    server.clock.advance(20)
    for byte in b"GET / HTTP/1.1\r\nX: aaaaaaaaa":
        server.clock.advance(1)
        client.send(bytes([byte]))
    assert client.got == b""
    server.clock.advance(3)
    assert client.status == 408
    assert server.told.reasons == ["slow_head"]


def test_a_connection_on_which_nothing_comes() -> None:
    """Is closed without a word, and by force if that does not end it."""
    server = Server(Limits(head_timeout=30))
    client = server.connect()
    server.clock.advance(29)
    assert not client.closed
    server.clock.advance(1)
    assert client.closed
    assert client.got == b""
    assert server.told.reasons == []
    server.clock.advance(CLOSING_TIME)
    assert client.transport.disconnected


def test_between_two_requests() -> None:
    """There is a time of its own; a head that has begun then has its own."""
    server = Server(Limits(head_timeout=30, idle_timeout=60))
    client = server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n")
    server.clock.advance(59)
    client.send(b"GET /now HTTP/1.1\r\n")
    server.clock.advance(29)
    assert not client.closed
    client.send(b"Host: x\r\n\r\n")
    server.clock.advance(59)
    assert not client.closed
    server.clock.advance(1)
    assert client.closed
    assert server.resource.asked == [b"/now", b"/now"]


def test_waiting_for_an_answer() -> None:
    """There is no limit to that: it is not the client that keeps anybody waiting."""
    server = Server()
    client = server.connect(GET)
    server.clock.advance(100_000)
    assert not client.closed
    server.resource.answer()
    assert client.status == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
def test_a_body_that_drips(framing: bytes) -> None:
    """Is given up: a byte now and then is not progress."""
    server = Server(Limits(body_timeout=60, min_rate=100))
    client = server.connect(b"POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % framing)
    for _ in range(20):
        server.clock.advance(2.9)
        client.send(b"1" if framing.startswith(b"C") else b"1\r\nx\r\n")
    assert client.got == b""
    server.clock.advance(2.9)
    assert client.status == 408
    assert server.told.reasons == ["slow_body"]


def test_a_body_that_may_be_slow_but_does_not_come() -> None:
    """Is given up whatever the least rate is; a byte now and then is enough if there is none."""
    server = Server(Limits(body_timeout=60, min_rate=0))
    client = server.connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(10):
        server.clock.advance(59)
        client.send(b"x")
    assert client.got == b""
    for _ in range(3):
        server.clock.advance(60)
    assert client.status == 408


def test_a_body_at_the_least_rate() -> None:
    """Is waited for, however long it takes."""
    server = Server(Limits(body_timeout=60, min_rate=100))
    client = server.connect(b"POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: 102000\r\n\r\n")
    for _ in range(1000):
        server.clock.advance(1)
        client.send(bytes(102))
    assert client.status == 200
    assert server.resource.asked == [b"/now"]


def test_a_standstill() -> None:
    """When it was the process that stood still, what has come meanwhile is looked at first."""
    server = Server(Limits(head_timeout=30))
    client = server.connect(b"GET /now HTTP/1.1\r\n")
    server.clock.rightNow += 1000
    server.turn()
    client.send(b"Host: x\r\n\r\n")
    server.clock.advance(0)
    assert client.status == 200


def test_a_client_that_is_not_read_from_is_not_late() -> None:
    """Whoever has to take its answers first cannot go on sending."""
    server = Server(Limits(head_timeout=30, idle_timeout=60))
    client = server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\nGET /now HTTP/1.1\r\n")
    client.channel.pauseProducing()
    server.clock.advance(300)
    assert not client.closed
    client.channel.resumeProducing()
    server.clock.advance(60)
    assert client.got.endswith(Refusal.SLOW_HEAD.answer())


def test_many_requests_at_once() -> None:
    """Are answered in order, a few per turn, and nothing is read meanwhile."""
    server = Server()
    client = server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    first = len(server.resource.asked)
    assert first < 10
    assert client.transport.producerState == "paused"
    client.channel.resumeProducing()
    assert client.transport.producerState == "paused"
    while len(server.resource.asked) < 100:
        before = len(server.resource.asked)
        server.turn()
        assert before < len(server.resource.asked) <= before + first
    server.turn()
    assert client.got.count(b"HTTP/1.1 200 OK") == 100
    assert client.transport.producerState == "producing"


def test_many_requests_of_one_who_leaves() -> None:
    """Are forgotten with it."""
    server = Server()
    client = server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    first = len(server.resource.asked)
    client.leave()
    server.clock.advance(1000)
    assert len(server.resource.asked) == first
    assert server.clock.calls == []


def refused(server: Server) -> Client:
    return server.connect(b"nonsense\r\n")


def test_what_is_still_sent_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is thrown away, for a while and up to a point; the answer is not cut off by a reset."""
    monkeypatch.setattr(channel, "LINGER_SIZE", 1 << 20)
    server = Server()
    client = refused(server)
    assert client.transport.half_closed
    client.send(bytes(100_000))
    assert not client.transport.disconnected
    server.clock.advance(REFUSED_TIME)
    assert client.transport.disconnected
    client = refused(server)
    client.send(bytes(1 << 20))
    assert not client.transport.disconnected
    client.send(b"x")
    assert client.transport.disconnected


def test_trailers_that_could_be_another_request() -> None:
    """Are refused, like heads that could be."""
    server = Server()
    head = b"POST /now HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = server.connect(head + b"0\r\n\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.status == 400
    assert server.resource.asked == []
    assert server.connect(head + b"0\r\nX: y\r\n\r\n").status == 200


def test_nothing_is_left_behind() -> None:
    """Of a connection that is gone, in whatever state it was, no timer and no count is left."""
    server = Server()
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n"
    for sent in (b"", b"GET", GET, GET + b"GET", chunked, b"nonsense\r\n", GET * 3):
        server.connect(sent).leave()
    server.clock.advance(10)  # after which the log has had its say
    assert server.clock.calls == []
    assert server.turnstile.connections == 0
    assert not server.turnstile._requests
    assert not server.turnstile._idle


def test_access_log() -> None:
    """Each answer is a line, if there is to be such a log at all."""

    def access_line(timestamp: str, request: Request) -> str:
        return f"{request.code} {request.uri!r}"

    for line, wanted in ((None, []), (access_line, ["200 b'/now'"])):
        server = Server(options={"access_line": line})
        with capturedLogs() as logged:
            server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [formatEvent(event) for event in logged] == wanted


def test_answers_that_nobody_takes() -> None:
    """Of a pipeline whose answers the client does not take no more are made, until it takes them."""
    server, asked = Server(), b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n"
    client = server.connect()
    client.channel.pauseProducing()
    client.send(asked * 20, asked * 20)
    for _ in range(5):
        server.turn()
    assert len(server.resource.asked) == 1
    client.channel.resumeProducing()
    for _ in range(10):
        server.turn()
    assert len(server.resource.asked) == 40
    assert client.got.count(b"HTTP/1.1 200 OK") == 40
    client.leave()
    assert server.clock.calls == []
