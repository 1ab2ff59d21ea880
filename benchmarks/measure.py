"""One turn of one server, and rounds of turns."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from attrs import asdict, define, field, frozen

from benchmarks import client, processtree
from benchmarks.client import Load
from benchmarks.figures import Sample, Samples, percentile, turns
from benchmarks.machine import have_memory, pace
from benchmarks.stage import Server, Stage
from tests.cloud.install import CHECKOUT
from tests.cloud.payload import GIB
from tests.cloud.processes import ServiceFailed, environment

Turn = Callable[[], Sample]

#: Seconds after a transfer in which what is left of its work is still counted.
_AFTERMATH = 0.3


def interleaved(
    stage: Stage, what: str, servers: Mapping[str, Turn], rounds: int | None = None, memory: int = 0
) -> Samples:
    """Let the servers take turns, each in the first place as often as any other.

    Each sample has a ``pace`` too: how fast the machine was right before.

    :param memory: bytes of free memory that each turn finds, for what it writes.
    """
    samples = Samples()
    os.sync()  # the disk has nothing left to do for what came before
    rounds = stage.scale.rounds if rounds is None else rounds
    for number, order in enumerate(turns(list(servers), rounds), 1):
        stage.say(f"  {what}: round {number} of {rounds}")
        for name in order:
            if memory:
                have_memory(memory)
            before = pace()
            samples.add(name, {**servers[name](), "pace": before})
    return samples


@define(eq=False)
class _Meter:
    """The processor time of a server between two moments, and its memory at the second."""

    pid: int
    _begun: float = 0.0
    seconds: float = 0.0
    pss: int = 0

    def begin(self) -> None:
        self._begun = processtree.cpu_seconds(self.pid)

    def end(self) -> None:
        self.seconds = processtree.cpu_seconds(self.pid) - self._begun
        self.pss = processtree.pss(self.pid)


def window(server: Server, load: Load) -> Sample:
    """What a server does under a steady load, in the load's seconds."""
    meter = _Meter(server.pid)
    came = client.run(load, meter.begin, meter.end)
    return {
        "bytes_per_second": came.bytes_per_second,
        "responses_per_second": came.responses / came.seconds,
        "cpu_per_gib": meter.seconds * GIB / came.bytes,
        "cpu": meter.seconds / came.seconds,
        "client_busy": came.busy,
        "pss": meter.pss,
    }


def transfer(server: Server, load: Load) -> Sample:
    """What it takes until every client has its bodies, and what the server still does right after."""
    meter = _Meter(server.pid)
    meter.begin()
    came = client.run(load)
    time.sleep(_AFTERMATH)
    meter.end()
    return {
        "bytes_per_second": came.bytes / came.last,
        "seconds": came.last,
        "cpu_per_gib": meter.seconds * GIB / came.bytes,
        "client_busy": came.busy,
    }


@contextmanager
def under(load: Load) -> Iterator[None]:
    """While this lasts, another process puts a load on a server; it has to succeed.

    :raises ServiceFailed: it did not.
    """
    command = [sys.executable, "-m", "benchmarks.client", json.dumps(asdict(load))]
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            time.sleep(load.settle)
            yield
        except BaseException:
            process.kill()
            raise
        _, errors = process.communicate(timeout=load.deadline + 10)
        if process.returncode:
            raise ServiceFailed(f"the load on port {load.port}: {errors.decode(errors='replace')[-500:]}")


@frozen
class Latency:
    """How long small requests took, in seconds."""

    values: list[float]

    def sample(self) -> Sample:
        return {
            "p50": percentile(self.values, 50),
            "p99": percentile(self.values, 99),
            "longest": max(self.values),
            "requests": len(self.values),
        }


@define(eq=False)
class Prober:
    """Asks for something small on one keep-alive connection, over and over, one request at a time."""

    port: int
    path: str
    interval: float
    values: list[float] = field(factory=list)
    _stopped: threading.Event = field(factory=threading.Event)
    _failed: Exception | None = None

    def for_seconds(self, seconds: float) -> Latency:
        threading.Timer(seconds, self._stopped.set).start()
        self._probe()
        return Latency(self.values)

    @contextmanager
    def meanwhile(self) -> Iterator[Latency]:
        """Probe for as long as this lasts, in a thread."""
        thread = threading.Thread(target=self._guarded, daemon=True)
        thread.start()
        try:
            yield Latency(self.values)
        finally:
            self._stopped.set()
            thread.join(10)
        if self._failed is not None:
            raise self._failed

    def _guarded(self) -> None:
        try:
            self._probe()
        except Exception as error:  # raised again where it is waited for
            self._failed = error

    def _probe(self) -> None:
        request = f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._stopped.wait(self.interval):
                asked = time.perf_counter()
                connection.sendall(request)
                _read_answer(connection)
                self.values.append(time.perf_counter() - asked)


def _read_answer(connection: socket.socket) -> None:
    """Take one answer off the connection.

    :raises ServiceFailed: it is no 200, or it was cut short.
    """
    data = b""
    while b"\r\n\r\n" not in data or len(data) < _length(data):
        if not (more := connection.recv(65536)):
            raise ServiceFailed("a small request's connection was closed")
        data += more


def _length(data: bytes) -> int:
    head, _, _ = data.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1] != b"200":
        raise ServiceFailed(f"a small request: {head[:100]!r}")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(head) + 4 + int(line.partition(b":")[2])
    raise ServiceFailed("an answer without Content-Length")
