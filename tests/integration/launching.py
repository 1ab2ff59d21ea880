"""Starts `twistd glancecache` the way an operator does, in the foreground and as a daemon."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field

import txglancecache
from tests.cloud.ports import LOOPBACK, free_port

ROOT = Path(txglancecache.__file__).parent.parent
TWISTD = Path(sys.executable).with_name("twistd")
#: Where nobody listens: these tests need no origin but where they say so.
NOWHERE = "http://127.0.0.1:1"
PATIENCE = 60.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@define(eq=False)
class Launch:
    """One command line, and the process that comes of it. Its files are in a directory of its own."""

    directory: Path
    data_port: int = field(factory=free_port)
    manage_port: int = field(factory=free_port)
    environment: dict[str, str] = field(factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def pid_file(self) -> Path:
        return self.directory / "node.pid"

    @property
    def log_file(self) -> Path:
        return self.directory / "node.log"

    @property
    def cache_dir(self) -> Path:
        return self.directory / "cache"

    def flags(self, **changes: str | None) -> list[str]:
        """Flags that work, apart from the changes; None leaves one out."""
        values: dict[str, str | None] = {
            "origin": NOWHERE,
            "listen": f"tcp:{self.data_port}:interface={LOOPBACK}",
            "manage": f"tcp:{self.manage_port}:interface={LOOPBACK}",
            "cache_dir": str(self.cache_dir),
            "min_free": "0",
            **changes,
        }
        given = [(name.replace("_", "-"), value) for name, value in values.items() if value is not None]
        return [f"--{name}={value}" for name, value in given]

    def command(self, *flags: str, daemon: bool = False) -> list[str]:
        where = ["--pidfile", str(self.pid_file)]
        how = ["--logfile", str(self.log_file)] if daemon else ["--nodaemon"]
        return [str(TWISTD), *where, *how, "glancecache", *flags]

    def run(self, *flags: str, daemon: bool = False) -> subprocess.CompletedProcess[str]:
        """A command that ends, or that leaves a daemon behind."""
        return subprocess.run(
            self.command(*flags, daemon=daemon),
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def start(self, *flags: str, ready: bool = True) -> None:
        """A process in the foreground, which answers at its management port when this returns."""
        self.spawn(self.command(*(flags or self.flags())))
        if ready:
            self.until(self.answers)

    def spawn(self, command: list[str], inherited: tuple[int, ...] = ()) -> None:
        """Start this very command, with descriptors that it inherits."""
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._environment(),
                stdout=log,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=inherited,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Exit status and stderr of the process in the foreground."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Exit status and stderr of the process in the foreground, which ends by itself."""
        assert self.process is not None
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def daemon_pid(self) -> int:
        return int(self.pid_file.read_text())

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        if self.pid_file.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.daemon_pid(), signal.SIGKILL)

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/cache")[0] == 200
        except OSError:
            return False

    def ask(
        self, method: str, path: str, connection: http.client.HTTPConnection | None = None
    ) -> tuple[int, Any]:
        """Status and JSON (None without a body) from the management site."""
        connection = connection or http.client.HTTPConnection(LOOPBACK, self.manage_port, timeout=PATIENCE)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, json.loads(body) if body else None

    def log(self) -> str:
        return self.log_file.read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it; fail if the process in the foreground ends first."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.ended()}:\n{self.log()}")
            assert time.monotonic() < deadline, f"not in time:\n{self.log()}"
            time.sleep(0.05)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
        path = os.pathsep.join([*filter(None, [self.environment.get("PYTHONPATH")]), str(ROOT)])
        return {**kept, **self.environment, "PYTHONPATH": path}


def listens(port: int, patience: float = PATIENCE) -> bool:
    """Whether anybody listens on a port of this machine."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=patience).close()
    except (ConnectionRefusedError, ConnectionResetError):  # reset: it was closed in that moment
        return False
    return True


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
