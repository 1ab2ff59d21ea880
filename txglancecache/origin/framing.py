"""How a response is laid out on the wire: its head, and where its body ends.

No I/O. h11 parses heads and chunks; a body whose end is plain to see, by a length or by the end of the
connection, is only counted, because h11 copies every byte of it several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import h11
from attrs import define, field, frozen

from txglancecache.errors import OriginProtocolError

#: The most bytes of a head, and of a chunk's size line, that the origin may send.
MAX_HEAD = 128 * 1024

#: The most header fields that a head may have.
MAX_FIELDS = 500

#: The most 1xx answers that may come before the last.
MAX_INTERIM = 16


@frozen
class Head:
    """The status line and header fields of a response, as they were on the wire."""

    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of(cls, event: h11.Response | h11.InformationalResponse) -> Head:
        """
        :raises OriginProtocolError: for one that nobody should have to read.
        """
        fields = tuple(event.headers.raw_items())
        if len(fields) > MAX_FIELDS:
            raise OriginProtocolError(f"the origin sent a head of {len(fields)} fields")
        return cls(event.status_code, bytes(event.reason), fields)


class BodyReader(Protocol):
    """Cuts one body out of what the origin sends."""

    @property
    def length(self) -> int | None:
        """How long the body is, where the head says it."""

    @property
    def finished(self) -> bool:
        """Whether the whole body has been fed."""

    @property
    def surplus(self) -> bool:
        """Whether more was fed than the body."""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The body bytes in what came next.

        :raises OriginProtocolError: when it cannot be part of a body.
        """

    def end(self, clean: bool) -> None:
        """The connection ended, in good order or not.

        :raises OriginProtocolError: when the body is not whole.
        """


@define(eq=False)
class Sized:
    """A body of known length."""

    length: int
    surplus: bool = field(default=False, init=False)
    _left: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self.length

    @property
    def finished(self) -> bool:
        return self._left == 0

    def feed(self, data: bytes) -> Sequence[bytes]:
        if len(data) > self._left:
            self.surplus = True
            data = data[: self._left]
        self._left -= len(data)
        return (data,) if data else ()

    def end(self, clean: bool) -> None:
        if self._left:
            raise OriginProtocolError(f"the origin closed {self._left} bytes before the end of {self.length}")


@define(eq=False)
class Chunked:
    """A body in chunks; what follows the head is in ``_parser`` already."""

    _parser: h11.Connection
    length: None = field(default=None, init=False)
    finished: bool = field(default=False, init=False)
    surplus: bool = field(default=False, init=False)

    def feed(self, data: bytes) -> Sequence[bytes]:
        if self.finished:
            self.surplus = self.surplus or bool(data)
            return ()
        if data:
            self._parser.receive_data(data)
        body = []
        try:
            while (event := self._parser.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Data):
                    body.append(bytes(event.data))
                else:
                    self.finished = True
                    self.surplus = bool(self._parser.trailing_data[0])
                    break
        except h11.RemoteProtocolError as error:
            raise OriginProtocolError(f"the origin broke its chunked framing: {error}") from error
        return body

    def end(self, clean: bool) -> None:
        if not self.finished:
            raise OriginProtocolError("the origin closed before the last chunk")


@define(eq=False)
class UntilClose:
    """A body that ends with the connection, so that nobody can tell a short one from a whole one."""

    length: None = field(default=None, init=False)
    finished: bool = field(default=False, init=False)
    surplus: bool = field(default=False, init=False)

    def feed(self, data: bytes) -> Sequence[bytes]:
        return (data,) if data else ()

    def end(self, clean: bool) -> None:
        if not clean:
            raise OriginProtocolError("the origin's connection broke within a body of unknown length")
        self.finished = True


def body_reader(method: bytes, response: h11.Response, parser: h11.Connection) -> tuple[BodyReader, bytes]:
    """The reader for a response's body (RFC 9112 section 6.3), and what came after the head, to feed it."""
    fields = dict(response.headers)
    trailing, _ = parser.trailing_data
    if method == b"HEAD" or response.status_code in (204, 304):
        return Sized(0), trailing
    if b"transfer-encoding" in fields:  # h11 lets no coding but chunked through
        return Chunked(parser), b""
    if b"content-length" in fields:
        return Sized(int(fields[b"content-length"])), trailing
    return UntilClose(), trailing


def keeps_alive(response: h11.Response) -> bool:
    """Whether the origin will take another request on this connection (RFC 9112 section 9.3)."""
    options = {
        option.strip().lower()
        for name, value in response.headers
        if name == b"connection"
        for option in value.split(b",")
    }
    return bytes(response.http_version) >= b"1.1" and b"close" not in options
