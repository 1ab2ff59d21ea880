"""The load: one epoll loop that asks for bodies and has the kernel throw them away.

``recv`` with ``MSG_TRUNC`` on a TCP socket discards without copying, so that this loop, Python or not, has a
core to spare where a server fills its own. How busy it was is part of every result.

``python -m benchmarks.client JSON`` runs a `Load` in a process of its own, for rows that look at something
else meanwhile.
"""

import json
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping

from attrs import asdict, define, field, frozen

_LARGEST_HEAD = 64 << 10
_ONE_READ = 1 << 20
#: Reads of one connection before the others have their turn.
_READS_A_TURN = 4


class LoadFailed(Exception):
    """A server refused a request, cut a body short, or fell silent."""


@frozen
class Load:
    """``clients`` keep-alive connections that ask for ``path`` on loopback, again and again.

    Either for ``seconds``, counted from ``settle`` seconds after the first request, or each client
    ``requests`` times. ``deadline``: seconds after which it is given up. ``buffer``: each connection's
    receive buffer in bytes; 0: the kernel's choice. ``size``: of the body, for a server that does not say it;
    it is asked in HTTP/1.0 then, where nothing is chunked.
    """

    port: int
    path: str
    clients: int = 1
    requests: int = 0
    seconds: float = 0.0
    settle: float = 0.2
    deadline: float = 120.0
    buffer: int = 0
    size: int | None = None
    headers: Mapping[str, str] = field(factory=dict)


@frozen
class Outcome:
    """What came in between the beginning and the end of the measured time.

    ``busy``: the part of that time, from 0 to 1, in which this client was on a processor; ``last``: seconds
    from the first request to the end of the last body.
    """

    bytes: int
    responses: int
    seconds: float
    busy: float
    last: float

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds


@define(eq=False)
class _Connection:
    socket: socket.socket
    asked: int = 0
    done: int = 0
    head: bytearray = field(factory=bytearray)
    left: int = -1  # of the body; below 0: the head is not in


@define(eq=False)
class _Run:
    load: Load
    on_begin: Callable[[], None]
    on_end: Callable[[], None]
    received: int = 0
    responses: int = 0
    last: float = 0.0
    _scratch: bytearray = field(factory=lambda: bytearray(_ONE_READ))
    _connections: dict[int, _Connection] = field(factory=dict)
    _epoll: select.epoll = field(factory=select.epoll)
    _request: bytes = b""

    def run(self) -> Outcome:
        load = self.load
        fields = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
        version = "1.1" if load.size is None else "1.0"
        request = f"GET {load.path} HTTP/{version}\r\nHost: 127.0.0.1:{load.port}\r\n{fields}\r\n"
        self._request = request.encode()
        try:
            return self._measure()
        finally:
            for connection in self._connections.values():
                connection.socket.close()
            self._epoll.close()

    def _measure(self) -> Outcome:
        load = self.load
        started = time.monotonic()
        give_up = started + load.deadline
        self._connect()
        if load.seconds:
            begins = started + load.settle
            while (now := time.monotonic()) < begins:
                self._turn(begins - now)
        begun, busy, received, responses = time.monotonic(), time.thread_time(), self.received, self.responses
        self.on_begin()
        ends = begun + load.seconds if load.seconds else give_up
        while self._connections and (now := time.monotonic()) < ends:
            self._turn(min(ends - now, 1.0))
        ended = time.monotonic()
        self.on_end()
        if self._connections and not load.seconds:
            raise LoadFailed(f"{len(self._connections)} of {load.clients} not done in {load.deadline:.0f} s")
        if load.seconds and self.received == received:
            raise LoadFailed(f"nothing came in {load.seconds:.1f} s")
        return Outcome(
            self.received - received,
            self.responses - responses,
            ended - begun,
            (time.thread_time() - busy) / (ended - begun),
            self.last - started,
        )

    def _connect(self) -> None:
        for _ in range(self.load.clients):
            sock = socket.socket()
            if self.load.buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.load.buffer)
            sock.connect(("127.0.0.1", self.load.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            connection = _Connection(sock)
            self._connections[sock.fileno()] = connection
            self._epoll.register(sock, select.EPOLLIN)
            self._ask(connection)

    def _ask(self, connection: _Connection) -> None:
        connection.asked += 1
        connection.left = -1
        connection.head.clear()
        connection.socket.send(self._request)

    def _turn(self, seconds: float) -> None:
        for fd, _ in self._epoll.poll(seconds):
            self._read(self._connections[fd])

    def _read(self, connection: _Connection) -> None:
        try:
            if connection.left < 0 and not self._read_head(connection):
                return
            receive, scratch = connection.socket.recv_into, self._scratch
            for _ in range(_READS_A_TURN):
                if not connection.left:
                    break
                # never beyond the body: the next head would be lost
                count = receive(scratch, min(connection.left, _ONE_READ), socket.MSG_TRUNC)
                if not count:
                    raise LoadFailed(f"a body ended {connection.left} bytes early")
                connection.left -= count
                self.received += count
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise LoadFailed(f"{self.load.path}: {error}") from error
        if not connection.left:
            self._finished(connection)

    def _read_head(self, connection: _Connection) -> bool:
        """Take the head, and nothing beyond it; whether it is whole."""
        seen = connection.socket.recv(_LARGEST_HEAD, socket.MSG_PEEK)
        if not seen:
            raise LoadFailed(f"{self.load.path}: the connection was closed before an answer")
        # the end may be split between what was taken before and what is there now
        before = len(connection.head)
        end = (connection.head + seen).find(b"\r\n\r\n")
        connection.head += connection.socket.recv(end + 4 - before if end >= 0 else len(seen))
        if end < 0:
            return False
        connection.left = _body_length(bytes(connection.head), self.load.size)
        return True

    def _finished(self, connection: _Connection) -> None:
        self.last = time.monotonic()
        self.responses += 1
        connection.done += 1
        if self.load.requests and connection.done == self.load.requests:
            self._epoll.unregister(connection.socket)
            del self._connections[connection.socket.fileno()]
            connection.socket.close()
        else:
            self._ask(connection)


def _body_length(head: bytes, otherwise: int | None) -> int:
    """The bytes that follow this head of a 200; ``otherwise`` if it does not say.

    :raises LoadFailed: it is another status, or nobody knows.
    """
    status, *lines = head.split(b"\r\n")
    if status.split(b" ", 2)[1:2] != [b"200"]:
        raise LoadFailed(f"answered {status.decode(errors='replace')}")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    if otherwise is None:
        raise LoadFailed("an answer without Content-Length")
    return otherwise


def run(
    load: Load, on_begin: Callable[[], None] = lambda: None, on_end: Callable[[], None] = lambda: None
) -> Outcome:
    """Put the load on the server; ``on_begin`` and ``on_end`` are called where the measured time has its
    ends.

    :raises LoadFailed: something else came than was asked for.
    """
    return _Run(load, on_begin, on_end).run()


def fetch(port: int, path: str, headers: Mapping[str, str] | None = None, times: int = 1) -> int:
    """Download so many times, one after the other, as `run`: a cache has it then. Returns how much came."""
    return run(Load(port, path, requests=times, headers=headers or {})).bytes


if __name__ == "__main__":
    print(json.dumps(asdict(run(Load(**json.loads(sys.argv[1]))))))
