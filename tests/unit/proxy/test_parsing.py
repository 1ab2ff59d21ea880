"""What both sites make of bytes that somebody made up: nothing that a strict parser would not make of them,
and the same however they come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
from attrs import define, field
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from txglancecache.clients.limits import Limits
from txglancecache.clients.refusals import Refusals
from txglancecache.clients.turnstile import Turnstile
from txglancecache.management.site import management_site
from txglancecache.proxy.site import data_site

LIMITS = Limits(line_size=2000, head_size=4000, head_fields=20)
Asked = tuple[bytes, bytes, bytes]


@define(eq=False)
class Taker(Resource):
    """Answers each request when it has all of it."""

    isLeaf = True
    asked: list[Asked] = field(factory=list)
    requests: list[Any] = field(factory=list)

    def render(self, request: Any) -> int:
        self.requests.append(request)
        body = getattr(request, "body", None)
        if body is None:
            self._answer(request, request.content.getvalue() if request.content else b"")
        else:
            taken = StringTransport()
            done = body.startProducing(taken)
            done.addCallbacks(lambda _: self._answer(request, taken.value()), lambda failure: None)
        return NOT_DONE_YET

    def _answer(self, request: Any, content: bytes) -> None:
        self.asked.append((request.method, request.uri, content))
        request.setHeader(b"Content-Length", b"0")
        request.finish()


class HalfClosing(StringTransport):
    def loseWriteConnection(self) -> None:
        pass


@define
class Outcome:
    """What a site made of it: the requests that it answered, and the statuses of all answers."""

    asked: list[Asked]
    statuses: list[int]


def outcome(make: Callable[..., Any], pieces: list[bytes]) -> Outcome:
    clock, taker = Clock(), Taker()
    turnstile = Turnstile(LIMITS, Refusals("data", clock), clock)
    site = make(taker, reactor=clock, turnstile=turnstile)
    transport = HalfClosing(peerAddress=IPv4Address("TCP", "192.0.2.1", 4711))
    channel = site.buildProtocol(None)
    channel.makeConnection(transport)
    for piece in pieces:
        channel.dataReceived(piece)
        clock.advance(0)
        if transport.disconnecting or transport.disconnected:
            break
    channel.connectionLost(Failure(ConnectionDone()))
    clock.advance(100)
    assert clock.calls == []
    assert turnstile.connections == 0
    assert not turnstile._requests
    answers = transport.value().split(b"HTTP/1.")[1:]
    return Outcome(taker.asked, [int(answer[2:5]) for answer in answers])


def strictly(data: bytes) -> list[Asked]:
    """What h11 makes of it, up to what it objects to."""
    connection = h11.Connection(h11.SERVER, 10_000)
    connection.receive_data(data)
    found: list[Asked] = []
    current: h11.Request | None = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                current, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert current is not None
                found.append((current.method, current.target, body))
                answer = h11.Response(status_code=200, headers=[("Content-Length", "0")])
                connection.send(answer)
                connection.send(h11.EndOfMessage())
                if connection.states[h11.CLIENT] is not h11.DONE or connection.our_state is not h11.DONE:
                    return found
                connection.start_next_cycle()
            else:
                return found
    except h11.RemoteProtocolError:
        return found


FIELDS = [
    b"Host: x",
    b"Host: x:80",
    b"Host:",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: 005",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length : 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding:\tCHUNKED\t",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: \x0bchunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Expect: 100-continue",
    b"X: " + b"a" * 300,
    b" folded",
    b"X",
    b"",
]
LINES = [
    b"GET / HTTP/1.1",
    b"POST /a?b HTTP/1.1",
    b"PUT /a HTTP/1.0",
    b"GET http://x/ HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"GET / HTTP/2.0",
    b"GET /",
    b"G\x00T / HTTP/1.1",
]
BODIES = [
    b"",
    b"hello",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n\nGET / HTTP/1.1\r\n\r\n",
    b"fffffffffffffffff\r\nhello",
]
_end = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n"])
_line = st.tuples(st.sampled_from(LINES) | st.sampled_from(LINES[:2]), _end).map(b"".join)
_fields = st.lists(st.tuples(st.sampled_from(FIELDS), _end).map(b"".join), max_size=5).map(b"".join)
_host = st.sampled_from([b"Host: x\r\n"] * 6 + [b""])
_request = st.tuples(_line, _host, _fields, _end, st.sampled_from(BODIES)).map(b"".join)
_requests = st.lists(_request, min_size=1, max_size=4).map(b"".join)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """Requests, some bytes of which are other ones."""
    data = bytearray(draw(_requests))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data) - 1))
        data[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
        if not data:
            break
    return bytes(data)


_anything = st.one_of(_mutated(), _requests, st.binary(max_size=300))


def path(uri: bytes) -> bytes:
    """A target without what the data site makes a ``Host`` of."""
    return uri.removeprefix(b"http://x")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


FIVE = b"/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
#: Not a parameter of pytest's: its plugin for Twisted wraps what Hypothesis calls once for each.
both_sites = st.sampled_from([data_site, management_site])


@given(make=both_sites, data=_anything, places=st.lists(st.integers(0, 5000), max_size=8))
@example(make=data_site, data=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 30, places=[40])
@example(
    make=management_site, data=b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" * 20, places=[]
)
def test_pieces(make: Callable[..., Any], data: bytes, places: list[int]) -> None:
    """It does not matter in which pieces a request comes."""
    whole = outcome(make, [data])
    assert outcome(make, cut(data, places)) == whole
    assert outcome(make, [data[n : n + 1] for n in range(len(data))]) == whole


@given(make=both_sites, data=_anything)
@example(make=data_site, data=b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n")
@example(make=management_site, data=b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n")
def test_one_reading(make: Callable[..., Any], data: bytes) -> None:
    """Requests that are answered are those that another strict parser finds, in order, with the same bodies;
    and what is refused is the last."""
    found = outcome(make, [data])
    assert set(found.statuses[:-1]) <= {100, 200}
    strict = strictly(data)
    ours = [(method, path(uri), body) for method, uri, body in found.asked]
    theirs = [(method, path(uri), body) for method, uri, body in strict]
    assert ours == theirs[: len(ours)]
