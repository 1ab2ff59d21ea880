"""An origin that cannot be relied on: it stands before a real Glance and spoils the answers that bring image
data, or that say what an image is and who may have it, each as it is told. All others cross as they are."""

import contextlib
import gzip
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from attrs import define, field, frozen

_PIECE = 2**16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST
_LONGEST = 20.0  # seconds for which any fault goes on


class Ended(Exception):
    """A connection is over."""


@define(eq=False)
class Wire:
    """The way to whoever asked."""

    connection: socket.socket

    def send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError:
            raise Ended from None

    def close(self) -> None:
        """End in good order, what was sent first."""
        raise Ended

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise Ended

    def drip(self, data: bytes, pause: float) -> None:
        """A byte now and then, and not for ever."""
        for byte in data[: int(_LONGEST / pause)]:
            self.send(bytes([byte]))
            time.sleep(pause)
        raise Ended

    def stall(self) -> None:
        """Say nothing more, until the other side has gone."""
        self.connection.settimeout(_LONGEST)
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        raise Ended


@define(eq=False)
class Given:
    """Glance's own answer."""

    head: bytes
    _body: Iterator[bytes]
    _ahead: bytes = b""

    def body(self, count: int | None = None) -> Iterator[bytes]:
        """The next `count` bytes of it, or all that are left."""
        while count is None or count > 0:
            piece = self._ahead or next(self._body, b"")
            if not piece:
                return
            self._ahead = b"" if count is None else piece[count:]
            piece = piece if count is None else piece[:count]
            count = None if count is None else count - len(piece)
            yield piece

    def changed(self, pattern: str, replacement: str) -> bytes:
        """The head with one thing changed, which has to be in it."""
        head, count = re.subn(pattern.encode(), replacement.encode(), self.head, count=1, flags=re.I)
        assert count, (pattern, self.head)
        return head


@frozen
class Fault:
    """What becomes of one answer. `ask` changes the request's head, `play` sends what the answer becomes."""

    name: str
    play: Callable[[Wire, Given], None]
    ask: Callable[[bytes], bytes] = lambda head: head


# where it breaks off


def _upto(wire: Wire, given: Given, at: int) -> None:
    wire.send(given.head)
    for piece in given.body(at):
        wire.send(piece)


def _then(name: str, end: Callable[[Wire], None]) -> Callable[[int], Fault]:
    def made(at: int) -> Fault:
        def play(wire: Wire, given: Given) -> None:
            _upto(wire, given, at)
            end(wire)

        return Fault(name, play)

    return made


cut = _then("a body that ends early", Wire.close)
reset = _then("a reset within a body", Wire.reset)
stall = _then("silence within a body", Wire.stall)


def drip(at: int) -> Fault:
    def play(wire: Wire, given: Given) -> None:
        _upto(wire, given, at)
        for piece in given.body():
            wire.drip(piece, 0.02)

    return Fault("a body that drips", play)


def cut_head(at: int) -> Fault:
    def play(wire: Wire, given: Given) -> None:
        wire.send(given.head[: at % len(given.head)])
        wire.close()

    return Fault("a head that ends early", play)


def reset_head(at: int) -> Fault:
    def play(wire: Wire, given: Given) -> None:
        wire.send(given.head[: at % len(given.head)])
        wire.reset()

    return Fault("a reset within a head", play)


def drip_head(at: int = 0) -> Fault:
    return Fault("a head that drips", lambda wire, given: wire.drip(given.head, 0.1))


def mute(at: int = 0) -> Fault:
    return Fault("no answer at all", lambda wire, given: wire.stall())


def paced(rate: float) -> Fault:
    def play(wire: Wire, given: Given) -> None:
        wire.send(given.head)
        for piece in given.body():
            wire.send(piece)
            time.sleep(len(piece) / rate)

    return Fault("a slow origin", play)


def held(at: int, until: threading.Event) -> Fault:
    """Says nothing more from there on, and then breaks off; in time for no silence to count."""

    def play(wire: Wire, given: Given) -> None:
        _upto(wire, given, at)
        until.wait(_LONGEST)
        wire.close()

    return Fault("a body that ends early", play)


def trickle(at: int, until: threading.Event) -> Fault:
    """From there on it is slow, if not too slow, for a while."""

    def play(wire: Wire, given: Given) -> None:
        _upto(wire, given, at)
        deadline = time.monotonic() + 2 * _LONGEST
        while not until.wait(0.25) and time.monotonic() < deadline:
            for piece in given.body(100):
                wire.send(piece)

    return Fault("a slow body", play)


# what it says


def says(status: str, *fields: str, body: bytes = b"") -> Fault:
    """Another answer than Glance's."""
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "Connection: close"]
    answer = "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def play(wire: Wire, given: Given) -> None:
        wire.send(answer)
        wire.close()

    return Fault(f"a {status.split()[0]}", play)


def _spoken(name: str, head: Callable[[Given], bytes], ask: Callable[[bytes], bytes] | None = None) -> Fault:
    """The right body under another head."""

    def play(wire: Wire, given: Given) -> None:
        wire.send(head(given))
        for piece in given.body():
            wire.send(piece)
        wire.close()

    return Fault(name, play, ask or (lambda head: head))


def _length_off_by(count: int) -> Callable[[Given], bytes]:
    def head(given: Given) -> bytes:
        return re.sub(
            rb"(?i)(content-length: *)(\d+)", lambda m: m[1] + b"%d" % (int(m[2]) + count), given.head
        )

    return head


too_long = _spoken("a Content-Length that is too long", _length_off_by(1000))
too_short = _spoken("a Content-Length that is too short", _length_off_by(-1000))
two_lengths = _spoken(
    "two Content-Lengths",
    lambda given: given.changed("\r\ncontent-length", "\r\nContent-Length: 7\\g<0>"),
)
until_close = _spoken(
    "HTTP/1.0 without a length",
    lambda given: re.sub(rb"(?i)\r\ncontent-length: *\d+", b"", given.changed("HTTP/1.1", "HTTP/1.0")),
)
interim_flood = _spoken(
    "1xx without end", lambda given: b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10**4 + given.head
)
some_interim = _spoken("a few 1xx", lambda given: b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + given.head)
field_flood = _spoken(
    "fields without end", lambda given: given.changed("\r\n\r\n$", "\r\n" + "X: y\r\n" * 10**5 + "\r\n")
)
long_field = _spoken(
    "a field without end", lambda given: given.changed("\r\n\r\n$", "\r\nX: " + "y" * 10**6 + "\r\n\r\n")
)
nul = _spoken("a NUL in a field", lambda given: given.changed("\r\n\r\n$", "\r\nX: a\0b\r\n\r\n"))
carriage_return = _spoken(
    "a CR in a field", lambda given: given.changed("\r\n\r\n$", "\r\nX: a\rSet-Cookie: b=c\r\n\r\n")
)
folded = _spoken("a field in two lines", lambda given: given.changed("\r\n\r\n$", "\r\nX: a\r\n b\r\n\r\n"))
coding_unknown = _spoken(
    "a transfer coding that nobody knows",
    lambda given: given.changed("content-length: *\\d+", "Transfer-Encoding: rot13"),
)
other_range = _spoken(
    "a 206 for another range",
    lambda given: re.sub(
        rb"(?i)(content-range: bytes )(\d+)", lambda m: m[1] + b"%d" % (int(m[2]) + 1), given.head
    ),
)
other_total = _spoken(
    "a 206 with another total", lambda given: re.sub(rb"(?i)(content-range: .*/\d+)", rb"\g<1>0", given.head)
)
multipart = _spoken(
    "a multipart 206",
    lambda given: re.sub(
        rb"(?i)\r\ncontent-range:[^\r]*", b"\r\nContent-Type: multipart/byteranges; boundary=x", given.head
    ),
)
whole_instead = _spoken(
    "a 200 for a range", lambda given: given.head, lambda head: re.sub(rb"(?i)\r\nrange:[^\r]*", b"", head)
)


def surplus(at: int = 0) -> Fault:
    def play(wire: Wire, given: Given) -> None:
        _upto(wire, given, 2**62)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        wire.stall()

    return Fault("garbage behind the body", play)


def gibberish(at: int = 0) -> Fault:
    def play(wire: Wire, given: Given) -> None:
        wire.send(b"\x16\x03\x01\0\xff" * 20 + b"\r\n\r\n")
        wire.close()

    return Fault("an answer that is not HTTP", play)


def chunked(breaks_at: int | None = None) -> Fault:
    """The same body in chunks, all of which are right up to `breaks_at`."""

    def play(wire: Wire, given: Given) -> None:
        wire.send(given.changed("content-length: *\\d+", "Transfer-Encoding: chunked"))
        for piece in given.body(breaks_at):
            wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        wire.send(b"0\r\n\r\n" if breaks_at is None else b"five\r\nhello\r\n")
        wire.close()

    return Fault("chunks" if breaks_at is None else "broken chunks", play)


def zipped() -> Fault:
    def play(wire: Wire, given: Given) -> None:
        body = gzip.compress(b"".join(given.body()), 1)
        wire.send(
            given.changed("content-length: *\\d+", f"Content-Length: {len(body)}\r\nContent-Encoding: gzip")
        )
        wire.send(body)
        wire.close()

    return Fault("a body in gzip", play)


def flip(at: int) -> Fault:
    """One bit of the body, wherever that is."""

    def play(wire: Wire, given: Given) -> None:
        _upto(wire, given, at)
        for number, piece in enumerate(given.body()):
            wire.send(bytes([piece[0] ^ 0x10]) + piece[1:] if number == 0 else piece)
        wire.close()

    return Fault("one flipped bit", play)


@define(eq=False)
class Unreliable:
    """Listens on loopback before `origin`, an http URL. `tls`: as an https server."""

    origin: str
    tls: ssl.SSLContext | None = None
    #: What becomes of the next answers, by what was asked, see `_asked`.
    faults: dict[str, deque[Fault]] = field(factory=dict)
    played: list[str] = field(factory=list)
    #: No request is answered.
    hang: bool = False
    requests: int = 0
    moved: int = 0  # bytes of bodies
    #: Those of them that Glance gave for what was asked.
    given: Counter[str] = field(factory=Counter)
    port: int = 0
    _listener: socket.socket | None = None
    _open: set[socket.socket] = field(factory=set)
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    def up(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._listener.getsockname()[1]
        _thread(self._accept, self._listener)

    def down(self) -> None:
        """Refuse connections, and break those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            left = list(self._open)
        for each in left:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def spoil(self, path: str, *faults: Fault) -> None:
        """Have this become of the next answers that bring what is at `path`."""
        self.faults[path] = deque(faults)

    def spoil_permission(self, path: str, *faults: Fault) -> None:
        """Have this become of the next answers to whether a client may have the data at `path`."""
        self.faults[f"may {path}"] = deque(faults)

    def calm(self) -> None:
        self.faults.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            _thread(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(120)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            return
        with self._lock:
            self._open.add(connection)
        try:
            while head := _head(connection):
                self._answer(connection, head)
        except (OSError, Ended):
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket, head: bytes) -> None:
        asked = _asked(head)
        fault = self._fault_for(asked)
        wire = Wire(connection)
        self.requests += 1
        if self.hang:
            wire.stall()
        if fault is not None:
            self.played.append(fault.name)
            head = fault.ask(head)
        parts = urlsplit(self.origin)
        with socket.create_connection((parts.hostname or "", parts.port or 80), 120) as origin:
            origin.sendall(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answer = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", _head(origin))
            # All of it now: Glance's server waits for those who do not close, and answers nobody meanwhile.
            body = [*iter(partial(self._read, origin), b"")]
        self.given[asked] += sum(map(len, body))
        given = Given(answer, iter(body))
        if fault is None:
            wire.send(given.head)
        else:
            fault.play(wire, given)
        for piece in given.body():
            wire.send(piece)
        if b"content-length" not in answer.lower():
            raise Ended

    def _read(self, origin: socket.socket) -> bytes:
        data = origin.recv(_PIECE)
        self.moved += len(data)
        return data

    def _fault_for(self, asked: str) -> Fault | None:
        with self._lock:
            waiting = self.faults.get(asked)
            return waiting.popleft() if waiting else None


def _asked(head: bytes) -> str:
    """The path that a GET asks for; before it "may " where the proxy only asks for permission."""
    found = re.match(rb"GET ([^? ]+)", head)
    path = found[1].decode() if found else ""
    permission = path.endswith("/file") and re.search(rb"(?i)\r\nrange: *bytes=\d+-\r\n", head)
    return f"may {path}" if permission else path


def _head(connection: socket.socket) -> bytes:
    """The bytes up to an empty line, and no more; none at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        waiting = connection.recv(4096, socket.MSG_PEEK) if not isinstance(connection, ssl.SSLSocket) else b""
        end = (head[-3:] + waiting).find(b"\r\n\r\n")
        count = 1 if not waiting else len(waiting) if end < 0 else end + 4 - len(head[-3:])
        data = connection.recv(count)
        if not data:
            return b""
        head += data
    return head


def _thread(target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, daemon=True, name="unreliable").start()
