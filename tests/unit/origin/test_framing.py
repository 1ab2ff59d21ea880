"""Where a response's body ends."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txglancecache.errors import OriginProtocolError
from txglancecache.origin.framing import (
    BodyReader,
    Chunked,
    Head,
    Sized,
    UntilClose,
    body_reader,
    keeps_alive,
)


def answer(wire: bytes, method: bytes = b"GET") -> tuple[h11.Response, h11.Connection]:
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"x")]))
    parser.receive_data(wire)
    event = parser.next_event()
    assert isinstance(event, h11.Response)
    return event, parser


def reader_of(wire: bytes, method: bytes = b"GET") -> tuple[BodyReader, bytes]:
    return body_reader(method, *answer(wire, method))


def test_a_head_keeps_spelling_order_and_duplicates() -> None:
    """What the origin spelt is what is passed on."""
    event, _ = answer(b"HTTP/1.1 299 Quite  Fine\r\nset-cookie: a\r\nX-B: \r\nSet-Cookie: b\r\n\r\n")
    assert Head.of(event) == Head(
        299, b"Quite  Fine", ((b"set-cookie", b"a"), (b"X-B", b""), (b"Set-Cookie", b"b"))
    )


@pytest.mark.parametrize(
    ("method", "wire"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
        (b"PUT", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_answers_without_a_body(method: bytes, wire: bytes) -> None:
    """To HEAD, with 204 or 304, or of length 0, whatever the fields promise."""
    reader, trailing = reader_of(wire, method)
    assert (reader.length, reader.finished, reader.surplus, trailing) == (0, True, False, b"")
    reader.end(clean=False)


def test_a_length_is_counted_down() -> None:
    """A sized body is whole at its last byte; more than that is not part of it."""
    reader, trailing = reader_of(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
    assert isinstance(reader, Sized)
    assert reader.length == 5
    assert list(reader.feed(trailing)) == [b"ab"]
    assert not reader.finished
    with pytest.raises(OriginProtocolError, match="3 bytes before the end of 5"):
        reader.end(clean=True)
    assert list(reader.feed(b"cdeXYZ")) == [b"cde"]
    assert reader.finished
    assert reader.surplus
    reader.end(clean=False)


def test_chunks_beat_a_length() -> None:
    """RFC 9112 section 6.3: Transfer-Encoding overrides Content-Length."""
    reader, _ = reader_of(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    )
    assert isinstance(reader, Chunked)
    assert reader.length is None
    assert list(reader.feed(b"")) == [b"hello"]
    with pytest.raises(OriginProtocolError, match="before the last chunk"):
        reader.end(clean=True)
    assert list(reader.feed(b"0\r\nX-Trailer: dropped\r\n\r\n")) == []
    assert reader.finished
    assert not reader.surplus
    assert list(reader.feed(b"more")) == []
    assert reader.surplus


@pytest.mark.parametrize("bad", [b"zz\r\n", b"5\r\nhelloXX", b"-1\r\n", b"0x5\r\nhello\r\n"])
def test_bad_chunks(bad: bytes) -> None:
    """A chunk that cannot be read is the origin's fault."""
    reader, _ = reader_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(OriginProtocolError, match="chunked framing"):
        reader.feed(bad)


def test_a_body_that_ends_with_the_connection() -> None:
    """Whole after an orderly close, broken after a reset."""
    wire = b"HTTP/1.0 200 OK\r\n\r\nab"
    reader, trailing = reader_of(wire)
    assert isinstance(reader, UntilClose)
    assert list(reader.feed(trailing)) == [b"ab"]
    assert not reader.finished
    reader.end(clean=True)
    assert reader.finished
    with pytest.raises(OriginProtocolError, match="unknown length"):
        reader_of(wire)[0].end(clean=False)


@pytest.mark.parametrize(
    ("wire", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive, CLOSE\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_who_keeps_the_connection(wire: bytes, kept: bool) -> None:
    """HTTP/1.1 does unless it says close; HTTP/1.0 is not relied on."""
    assert keeps_alive(answer(wire)[0]) is kept


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=8),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_chunks_come_out_however_the_wire_is_cut(chunks: list[bytes], cuts: list[int]) -> None:
    """The body does not depend on how the bytes arrive."""
    wire = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    reader, _ = reader_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = b""
    while wire:
        size = cuts[len(wire) % len(cuts)]
        body += b"".join(reader.feed(wire[:size]))
        wire = wire[size:]
    assert body == b"".join(chunks)
    assert reader.finished
    assert not reader.surplus
