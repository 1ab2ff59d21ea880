"""The processes of one run. Each leads a process group of its own, so that a Ctrl-C at the terminal reaches
only the program that started them, which then stops them in order; and each is told by the kernel when that
program dies."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from attrs import define, field, frozen


class ServiceFailed(Exception):
    """A process ended, or did not answer, when it was needed."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would change how OpenStack's programs behave."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("OS_", "PYTHON", "COV_"))
    }
    return {**kept, "no_proxy": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1", **(extra or {})}


@frozen(eq=False)
class Service:
    """One running program, and its log if it does not write to this program's output."""

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path | None
    again: "Callable[[], Service]"

    @property
    def pid(self) -> int:
        return self.popen.pid

    def logged(self) -> str:
        return self.log.read_text(errors="replace") if self.log else ""

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.logged().splitlines()[-lines:])

    def signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def until(self, ready: Callable[[], bool], what: str, seconds: float = 60, look: float = 0.05) -> None:
        """Wait until `ready()`, which is asked every `look` seconds; the program's end or the time-out is a
        ServiceFailed that carries its last words."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.popen.poll() is not None:
                raise ServiceFailed(f"{self.name} ended with {self.popen.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{self.name}: {what} not within {seconds:.0f} s:\n{self.tail()}")
            time.sleep(look)

    def until_answers(self, url: str, seconds: float = 60) -> None:
        self.until(lambda: answers(url), f"an answer from {url}", seconds)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=10):  # any status is an answer
            return True
    except HTTPError:
        return True
    except OSError:
        return False


def start(
    name: str, command: Sequence[str | Path], log: Path | None, *, env: Mapping[str, str], cwd: Path
) -> Service:
    """Start `command`, writing to `log` or, without one, where this program writes. To be called from the
    main thread: the kernel ties the child to the thread that starts it."""
    with log.open("ab") if log else contextlib.nullcontext() as output:
        popen = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
            env=env,
            cwd=cwd,
        )
    return Service(name, popen, log, lambda: start(name, command, log, env=env, cwd=cwd))


def stop(services: Sequence[Service], grace: float = 3) -> None:
    """Ask every process group to end, and end it after `grace` seconds."""
    for service in services:
        service.signal_group(signal.SIGTERM)
    deadline = time.monotonic() + grace
    for service in services:
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.popen.wait(max(0.0, deadline - time.monotonic()))
        service.signal_group(signal.SIGKILL)
        service.popen.wait()


@define(eq=False)
class Processes:
    """The services of one run: one log directory, stopped together."""

    directory: Path
    logs: Path
    services: list[Service] = field(factory=list)

    def start(self, name: str, *command: str | Path, env: Mapping[str, str] | None = None) -> Service:
        service = start(name, command, self.logs / f"{name}.log", env=environment(env), cwd=self.directory)
        self.services.append(service)
        return service

    def gunicorn(
        self,
        name: str,
        gunicorn: Path,
        application: str,
        port: int,
        env: Mapping[str, str],
        threads: int = 32,
        workers: int = 1,
    ) -> Service:
        """A WSGI application of OpenStack. It reads sys.argv, so gunicorn gets a file and no arguments."""
        settings = {
            "wsgi_app": application,
            "bind": f"127.0.0.1:{port}",
            "workers": workers,
            "threads": threads,
            "worker_class": "gthread",
            "worker_tmp_dir": str(self.directory),
            "timeout": 600,
            "graceful_timeout": 1,
            "keepalive": 75,
            "control_socket_disable": True,  # it would be in the home directory
        }
        conf = self.directory / f"{name}.gunicorn.py"
        conf.write_text("".join(f"{key} = {value!r}\n" for key, value in settings.items()))
        return self.start(name, gunicorn, env={**env, "GUNICORN_CMD_ARGS": f"--config {conf}"})

    def restart(self, service: Service) -> Service:
        """Kill it and start it again, as it was."""
        stop([service], grace=0)
        self.services.remove(service)
        self.services.append(service.again())
        return self.services[-1]

    def stop(self) -> None:
        stop(self.services)
        self.services.clear()
