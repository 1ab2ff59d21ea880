"""Asks a node for next to nothing, again and again, to see how long it keeps anybody waiting.

It runs as a process of its own, so that it waits for nobody else: `python -m tests.faults.pings PORT PID`,
until its standard input ends. Who has to wait because the machine has no processor for the node, or for this
process, is not kept waiting by the node: the kernel counts that time, and it is taken off."""

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from attrs import asdict, define

from tests.cloud.ports import LOOPBACK
from tests.cloud.proxy import Proxy

#: Seconds between an answer and the next question. What begins in between is seen so much shorter.
EVERY = 0.01
_CHECKOUT = Path(__file__).parents[2]
#: The node answers it by itself, in the turn of its reactor in which it comes.
_QUESTION = b"OPTIONS * HTTP/1.1\r\nHost: ping\r\nMax-Forwards: 0\r\n\r\n"
_ANSWER = b"HTTP/1.1 204 "


@define(eq=False)
class Pings:
    """How often it was asked, and how many seconds it took at most: in all, and without the wait for a
    processor."""

    count: int = 0
    longest: float = 0.0
    longest_held: float = 0.0

    def add(self, took: float, starved: float) -> None:
        self.count += 1
        self.longest = max(self.longest, took)
        self.longest_held = max(self.longest_held, took - starved)


@contextmanager
def pinged(proxy: Proxy) -> Iterator[Pings]:
    """Within this the node is asked; what came of it is there at the end."""
    command = [sys.executable, "-m", "tests.faults.pings", str(proxy.port), str(proxy.service.pid)]
    pings = Pings()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_CHECKOUT) as process:
        try:
            yield pings
        finally:
            said, _ = process.communicate(timeout=20)
    assert process.returncode == 0, "the node did not answer a ping"
    for name, value in json.loads(said).items():
        setattr(pings, name, value)


def _starved(*tasks: str) -> float:
    """For how many seconds these threads have had to wait for a processor so far."""
    return sum(int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) for task in tasks) / 1e9


def _ping(port: int, pid: int) -> Pings:
    pings = Pings()
    tasks = f"{pid}/task/{pid}", "thread-self"
    with closing(socket.create_connection((LOOPBACK, port), timeout=30)) as connection:
        while not select.select([sys.stdin], [], [], EVERY)[0]:
            began, starved = time.monotonic(), _starved(*tasks)
            connection.sendall(_QUESTION)
            answer = connection.recv(4096)
            if not answer.startswith(_ANSWER) or not answer.endswith(b"\r\n\r\n"):
                raise ConnectionError(answer)
            pings.add(time.monotonic() - began, _starved(*tasks) - starved)
    return pings


if __name__ == "__main__":
    print(json.dumps(asdict(_ping(int(sys.argv[1]), int(sys.argv[2])))))
