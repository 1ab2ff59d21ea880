"""Clients made of raw sockets, by the hundred, in one thread: they send what they are told, as slowly as they
are told, and read as much as they like."""

import contextlib
import ctypes
import re
import resource
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from attrs import define, field

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST
_PIECE = 2**16
_SO_ATTACH_FILTER = 26
_TAKE_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)  # classic BPF: return 0


def raise_descriptor_limit() -> None:
    """Let this process have as many sockets as it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@define(eq=False)
class Hostile:
    """One connection. `received` keeps the first bytes of what came, `count` says how many came in all."""

    socket: socket.socket
    received: bytes = b""
    count: int = 0
    over: str = ""
    pending: bytes = b""

    @classmethod
    def to(cls, port: int, *, buffer: int | None = None) -> "Hostile":
        """`buffer`: how many bytes the kernel may take for a client that does not read."""
        connection = socket.socket()
        if buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(20)
        client = cls(connection)
        try:
            connection.connect(("127.0.0.1", port))
        except ConnectionResetError:
            client.over = "reset"
        connection.setblocking(False)
        return client

    @property
    def status(self) -> str:
        """Of the first answer; else how the connection ended, if it did."""
        line = self.received.partition(b"\r\n")[0].split(b" ")
        return line[1].decode("latin-1") if len(line) > 1 else self.over or "open"

    @property
    def statuses(self) -> list[int]:
        """Of all answers, none of which may have a body that looks like one."""
        return [int(found) for found in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", self.received)]

    def send(self, data: bytes) -> int:
        """As much of it as goes now; how much that was."""
        if self.over:
            return 0
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._read()
            self.over = self.over or "reset"
            return 0

    def push(self, data: bytes) -> None:
        """All of it, after what has not gone yet, as much of it as goes now."""
        self.pending += data
        self.pending = self.pending[self.send(self.pending) :]

    def look(self, keep: int = _PIECE) -> None:
        """Take what there is, and see whether it is over."""
        while not self.over and self._read(keep):
            pass

    def _read(self, keep: int = _PIECE) -> bool:
        try:
            data = self.socket.recv(_PIECE)
        except BlockingIOError:
            return False
        except OSError:
            self.over = "reset"
            return False
        if not data:
            self.over = "closed"
        self.count += len(data)
        self.received += data[: max(0, keep - len(self.received))]
        return bool(data)

    def vanish(self) -> None:
        """As if the network were gone: nothing that is sent here arrives, or is acknowledged, from now on."""
        program = ctypes.create_string_buffer(_TAKE_NOTHING, len(_TAKE_NOTHING))
        self.socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
        )

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()


@contextmanager
def crowd(port: int, count: int, *, buffer: int | None = None) -> Iterator[list[Hostile]]:
    """So many connections."""
    clients: list[Hostile] = []
    try:
        for _ in range(count):
            clients.append(Hostile.to(port, buffer=buffer))
        yield clients
    finally:
        for client in clients:
            client.close()


def say(port: int, *data: bytes, seconds: float = 10, until: bytes | None = None) -> Hostile:
    """Send it all and listen until the connection is over, or until this has come; closed afterwards."""
    client = Hostile.to(port)
    left = memoryview(b"".join(data))
    deadline = time.monotonic() + seconds
    try:
        while not client.over and time.monotonic() < deadline:
            poll = select.poll()
            poll.register(client.socket, select.POLLIN | (select.POLLOUT if left else 0))
            poll.poll(200)
            left = left[client.send(bytes(left[:_PIECE])) :] if left else left
            client.look(2**22)
            if until is not None and until in client.received:
                break
    finally:
        client.close()
    return client


def drip(
    clients: Sequence[Hostile],
    data: Callable[[int], bytes],
    *,
    every: float,
    seconds: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Have each send `data(n)` in round n, until all are over or the time is up."""
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline and not all(client.over for client in clients):
        began = time.monotonic()
        for client in clients:
            client.look()
            client.send(data(number))
        number += 1
        meanwhile()
        time.sleep(max(0.0, began + every - time.monotonic()))


def outcomes(clients: Iterable[Hostile]) -> Counter[str]:
    return Counter(client.status for client in clients)


@define(eq=False)
class Downloads:
    """Many downloads of one body, none faster than `rate`, each byte compared with what it should be.
    `at_once`: how many of them were in the middle of it at the same time, at most."""

    expected: bytes
    rate: float
    finished: int = 0
    wrong: int = 0
    broken: int = 0
    at_once: int = 0
    total: int = 0
    seconds: float = 0.0
    _bodies: dict[int, int] = field(factory=dict)
    _heads: dict[int, bytes] = field(factory=dict)

    def run(
        self,
        clients: Sequence[Hostile],
        request: bytes,
        seconds: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        tick = 0.05
        allowance = max(4096, int(self.rate * tick))
        for client in clients:
            client.send(request)
        waiting = dict(enumerate(clients))
        began = time.monotonic()
        while waiting and time.monotonic() - began < seconds:
            round_began = time.monotonic()
            for number, client in list(waiting.items()):
                if self._step(number, client, allowance):
                    del waiting[number]
            self.at_once = max(self.at_once, len(waiting.keys() & self._bodies.keys()))
            meanwhile()
            time.sleep(max(0.0, round_began + tick - time.monotonic()))
        self.seconds = time.monotonic() - began
        self.broken += len(waiting)

    def _step(self, number: int, client: Hostile, allowance: int) -> bool:
        """Whether this one is over."""
        try:
            data = client.socket.recv(allowance)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.broken += 1
            return True
        self.total += len(data)
        if number not in self._bodies:
            head, end, data = (self._heads.get(number, b"") + data).partition(b"\r\n\r\n")
            if not end:
                self._heads[number] = head
                return False
            if not head.startswith(b"HTTP/1.1 200 "):
                self.broken += 1
                return True
            self._bodies[number] = 0
        at = self._bodies[number]
        if data != self.expected[at : at + len(data)]:
            self.wrong += 1
            return True
        self._bodies[number] = at + len(data)
        if self._bodies[number] == len(self.expected):
            self.finished += 1
            return True
        return False
