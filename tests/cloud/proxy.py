"""The program under test: a real `twistd -n glancecache` on free ports, with a cache directory of its own."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.cloud.client import Answer, Download, Headers, call, download, request
from tests.cloud.images import Image
from tests.cloud.ports import free_port
from tests.cloud.processes import Service, answers, environment, start, stop

_TROUBLE = re.compile(r"Traceback|Unhandled|#critical\]")


def glancecache(**options: object) -> list[str | Path]:
    """The command that runs a node in the foreground."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return [Path(sys.executable).with_name("twistd"), "--nodaemon", "--pidfile=", "glancecache", *flags]


class ProxyMisbehaved(Exception):
    """It did not stop as it should, or its log tells of a bug."""


@define(eq=False)
class Proxy:
    """One node in front of `origin`. Its directory outlives its processes, so it can be started again."""

    origin: str
    directory: Path
    logs: Path
    options: Mapping[str, object] = field(factory=dict)
    port: int = field(factory=free_port)
    manage_port: int = field(factory=free_port)
    variables: Mapping[str, str] = field(factory=dict)  # of its environment
    _service: Service | None = None
    _starts: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def manage_url(self) -> str:
        return f"http://127.0.0.1:{self.manage_port}"

    @property
    def cache_dir(self) -> Path:
        return self.directory / "cache"

    @property
    def service(self) -> Service:
        if self._service is None:
            raise ProxyMisbehaved("not started")
        return self._service

    # its life

    @property
    def command(self) -> list[str | Path]:
        return glancecache(
            origin=self.origin,
            listen=f"tcp:{self.port}:interface=127.0.0.1",
            manage=f"tcp:{self.manage_port}:interface=127.0.0.1",
            cache_dir=self.cache_dir,
            **self.options,
        )

    def launch(self) -> Service:
        """Start its process, and do not wait for it to be of use."""
        self._starts += 1
        log = self.logs / f"{self.directory.name}-{self._starts}.log"
        self._service = start("proxy", self.command, log, env=environment(self.variables), cwd=self.directory)
        return self._service

    def start(self) -> None:
        self.launch().until(lambda: answers(f"{self.manage_url}/cache"), "an answer", seconds=20)

    def check(self, flag: str = "--check") -> "subprocess.CompletedProcess[str]":
        """What `--check` says of the cache directory; nobody may be using it."""
        return subprocess.run(
            [*self.command, flag], env=environment(), capture_output=True, text=True, timeout=60, check=False
        )

    def stop(self, seconds: float = 40) -> None:
        """SIGTERM; it has to exit with 0 and to have logged no bug."""
        service = self.service
        service.popen.send_signal(signal.SIGTERM)
        code = service.popen.wait(seconds)
        self._service = None
        if code:
            raise ProxyMisbehaved(f"exit status {code} after SIGTERM:\n{service.tail()}")
        self.check_log(service)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to write anything."""
        self.service.popen.kill()
        self.service.popen.wait()
        self._service = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Whatever state it is in, let no process be left."""
        if self._service is not None:
            stop([self._service], grace=5)
            self._service = None

    @staticmethod
    def check_log(service: Service) -> None:
        text = service.logged()
        if found := _TROUBLE.search(text):
            raise ProxyMisbehaved(f"in the proxy's log:\n{text[max(0, found.start() - 500) :][:4000]}")

    @property
    def has_directory(self) -> bool:
        """Whether it has taken its cache directory. Looked up and not tried, which could get in its way."""
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return any((lock[1], lock[4]) == ("FLOCK", str(self.service.pid)) for lock in locks)

    @property
    def is_running(self) -> bool:
        return self._service is not None and self._service.popen.poll() is None

    # the data site

    def get(
        self, image: Image, token: str | None, headers: Headers | None = None, method: str = "GET"
    ) -> Answer:
        return request(method, self.url + image.path, token=token, headers=headers)

    def download(self, image: Image, token: str | None = None, **how: Any) -> Download:
        """As `client.download`."""
        return download(self.url + image.path, token=token, **how)

    # the management site

    def status(self) -> Any:
        return call("GET", f"{self.manage_url}/cache").json()

    def images(self) -> dict[str, Any]:
        """What the cache holds, by image id."""
        listed: list[Any] = []
        page: str | None = "/cache/images"
        while page:
            answer = call("GET", self.manage_url + page).json()
            listed += answer["images"]
            page = answer["next"]
        return {entry["id"]: entry for entry in listed}

    def entry(self, image: Image) -> Any:
        """What the cache holds of one image, its extents included; None: nothing."""
        answer = request("GET", f"{self.manage_url}/cache/images/{image.id}")
        return answer.json() if answer.status == 200 else None

    def purge(self, image: Image | None = None) -> None:
        call("DELETE", f"{self.manage_url}/cache/images" + (f"/{image.id}" if image else ""))

    def until_complete(self, image: Image, seconds: float = 30) -> None:
        self.until(lambda: (self.entry(image) or {}).get("complete", False), f"all of {image.id}", seconds)

    def until_holds(self, image: Image, count: int, seconds: float = 30) -> None:
        """Wait until so many bytes of the image are on this node's disk."""
        held = lambda: (self.entry(image) or {}).get("bytes_on_disk", 0) >= count  # noqa: E731
        self.until(held, f"{count} bytes of {image.id}", seconds)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
        self.service.until(condition, what, seconds)

    # the process

    def rss(self) -> int:
        """Bytes of memory that are its own, not files'."""
        status = Path(f"/proc/{self.service.pid}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, status
        return int(found[1]) * 1024

    def disk_use(self) -> int:
        """Bytes that the cache directory takes, sparse files counted by their blocks."""
        files = [path for path in self.cache_dir.rglob("*") if path.is_file()]
        return sum(path.stat().st_blocks * 512 for path in files)


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether the condition becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
