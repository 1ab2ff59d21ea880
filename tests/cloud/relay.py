"""Between the proxy and Glance: passes bytes on as they are, and keeps every exchange that it sees in them.

A relay can be told to be slow, to hold bodies back at some byte and to break one off: bodies of image data
only, those of `GET …/file`. The rest crosses at once."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from attrs import define, field

from tests.cloud.observer import Exchange, Observer

_PIECE = 2**18
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


@define(eq=False)
class Shape:
    """What happens to bodies; shared by the connections of a relay."""

    rate: float | None = None  # bytes a second, all bodies together
    hold_at: int | None = None
    cut_at: int | None = None
    changed: threading.Condition = field(factory=threading.Condition)
    _due: float = 0.0

    def admit(self, passed: int, wanted: int, gone: threading.Event) -> int:
        """How many of `wanted` more bytes may follow the `passed` ones of a body; waits until one may. 0: it
        ends here."""
        with self.changed:
            while not gone.is_set():
                if self.cut_at is not None and passed >= self.cut_at:
                    self.cut_at = None
                    return 0
                limits = [limit - passed for limit in (self.hold_at, self.cut_at) if limit is not None]
                if min(limits, default=1) > 0:
                    return self._pace(min([wanted, *limits]), gone)
                self.changed.wait()
        return 0

    def _pace(self, count: int, gone: threading.Event) -> int:
        if self.rate is None:
            return count
        count = min(count, max(4096, int(self.rate / 50)))
        due = self._due = max(self._due, time.monotonic()) + count / self.rate
        while not gone.is_set() and (left := due - time.monotonic()) > 0:
            self.changed.wait(left)
        return count


def _thread(target: Callable[[], None]) -> None:
    threading.Thread(target=target, daemon=True, name="relay").start()


@define(eq=False)
class Relay:
    """Listens on loopback in front of `origin`, an http URL."""

    origin: str
    exchanges: list[Exchange] = field(factory=list)
    _lost: list[Exception] = field(factory=list)
    _shape: Shape = field(factory=Shape)
    _listener: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=512))
    _connections: "list[_Connection]" = field(factory=list)

    def start(self) -> None:
        _thread(self._accept)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.sever()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    # what it does to bodies, those under way included

    def pace(self, rate: float | None) -> None:
        """Let so many bytes a second pass, all bodies together; None: as many as there are."""
        self._set(rate=rate)

    def hold(self, at: int | None) -> None:
        """Let no body pass beyond `at` bytes, counted in each response by itself; None: let them go on."""
        self._set(hold_at=at)

    def cut(self, at: int | None) -> None:
        """Break the connection of the first body that reaches `at` bytes, and no other."""
        self._set(cut_at=at)

    def calm(self) -> None:
        """Do nothing to bodies any more, and forget what was seen."""
        self._set(rate=None, hold_at=None, cut_at=None)
        self.exchanges.clear()
        self._lost.clear()

    def _set(self, **settings: float | None) -> None:
        with self._shape.changed:
            for name, value in settings.items():
                setattr(self._shape, name, value)
            self._shape.changed.notify_all()

    # what it saw

    def of(self, path: str) -> list[Exchange]:
        """The exchanges about `path`, whatever their query. Refuses to tell if it may have missed some."""
        if self._lost:
            raise self._lost[0]
        return [exchange for exchange in list(self.exchanges) if exchange.path == path]

    def transfers(self, path: str) -> list[Exchange]:
        """Those that brought bytes of the data at `path`."""
        return [exchange for exchange in self.of(path) if exchange.status in {200, 206} and exchange.received]

    def moved(self, path: str) -> int:
        """How many bytes of it have come from Glance."""
        return sum(exchange.received for exchange in self.transfers(path))

    def _accept(self) -> None:
        parts = urlsplit(self.origin)
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                origin = socket.create_connection((parts.hostname or "", parts.port or 80))
            except OSError:
                client.close()
                continue
            connection = _Connection(
                client, origin, self._shape, Observer(self.exchanges.append, self._lost.append)
            )
            self._connections = [*(other for other in self._connections if not other.is_over), connection]
            connection.start()


@define(eq=False)
class _Connection:
    """One connection of the proxy's, and the one to Glance that belongs to it."""

    client: socket.socket
    origin: socket.socket
    shape: Shape
    observer: Observer
    _gone: threading.Event = field(factory=threading.Event)

    @property
    def is_over(self) -> bool:
        return self._gone.is_set()

    def start(self) -> None:
        for end in (self.client, self.origin):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _thread(self._carry_requests)
        _thread(self._carry_responses)

    def sever(self, *, broken: bool = False) -> None:
        """End both connections; `broken`: the proxy gets a reset."""
        if self._gone.is_set():
            return
        self._gone.set()
        with self.shape.changed:
            self.shape.changed.notify_all()
        with contextlib.suppress(OSError):
            if broken:
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # wakes the thread that is blocked in recv(); a plain close() would not
            self.client.shutdown(socket.SHUT_RD if broken else socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.origin.shutdown(socket.SHUT_RDWR)
        self.client.close()
        self.origin.close()

    def _carry_requests(self) -> None:
        try:
            while data := self.client.recv(_PIECE):
                self.observer.saw_request(data)
                self.origin.sendall(data)
        except OSError:
            pass
        self.sever()  # the proxy never closes one half only

    def _carry_responses(self) -> None:
        try:
            while data := self.origin.recv(_PIECE):
                self._pass_on(memoryview(data))
            self.observer.saw_response(b"")
            self.client.shutdown(socket.SHUT_WR)
        except OSError:
            self.sever(broken=True)

    def _pass_on(self, data: memoryview) -> None:
        while data:
            exchange = self.observer.current
            count = len(data)
            if exchange is not None and exchange.carries_data:
                count = self.shape.admit(exchange.received, count, self._gone)
                if not count:
                    raise ConnectionAbortedError
            elif (end := bytes(data).find(b"\r\n\r\n")) >= 0:
                count = end + 4  # a head by itself, so that the shape holds from the first byte of the body
            self.observer.saw_response(bytes(data[:count]))
            self.client.sendall(data[:count])
            data = data[count:]
