"""What a row stands on: a directory of its own, the processes in it, bodies to serve."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from attrs import asdict, define, field, frozen

from benchmarks.client import fetch
from benchmarks.origin import Stored
from tests.cloud.client import authorized, call
from tests.cloud.images import Image
from tests.cloud.install import CHECKOUT
from tests.cloud.payload import GIB, MIB, Payload
from tests.cloud.ports import free_port
from tests.cloud.processes import Processes
from tests.cloud.proxy import Proxy

#: Seconds that the file system may take to free the blocks of a file that is gone.
_FREEING = 0.3

STATE = CHECKOUT / ".bench"


@frozen
class Scale:
    """How much is done. Sizes in bytes, times in seconds."""

    rounds: int = 5
    image: int = GIB
    glance_image: int = GIB // 2  # from a real Glance, which is slower
    storm_image: int = 256 * MIB
    storm_clients: int = 64
    storm_rate: float = 100e6
    storm_patience: float = 15.0
    clients: tuple[int, ...] = (1, 16, 64)
    crowd: int = 1000
    window: float = 0.8
    slow_window: float = 1.2  # for what answers less often
    probing: float = 3.0
    entries: tuple[int, ...] = (10_000, 100_000)
    trace_requests: int = 20_000
    trace_seeds: int = 5


SMALL = Scale(
    rounds=1,
    image=32 * MIB,
    glance_image=16 * MIB,
    storm_image=8 * MIB,
    storm_clients=4,
    storm_rate=20e6,
    storm_patience=5.0,
    clients=(1, 4),
    crowd=20,
    window=0.2,
    slow_window=0.3,
    probing=0.5,
    entries=(200, 1000),
    trace_requests=500,
    trace_seeds=2,
)


@frozen
class Server:
    """A process tree that answers on a port."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def sized(count: int) -> str:
    """So many bytes, in words."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count} bytes"


def clients_of(count: int) -> str:
    """So many clients, in words."""
    return "1 client" if count == 1 else f"{count} clients"


@define(eq=False)
class Stage:
    """Where one row happens."""

    scale: Scale
    processes: Processes
    say: Callable[[str], None]
    _proxies: list[Proxy] = field(factory=list)
    _bodies: dict[int, Stored] = field(factory=dict)
    _serial: int = 0

    @property
    def directory(self) -> Path:
        return self.processes.directory

    def folder(self, name: str) -> Path:
        """A new directory."""
        self._serial += 1
        path = self.directory / f"{name}-{self._serial}"
        path.mkdir()
        return path

    def module(self, name: str, *arguments: object) -> int:
        """Start a module of this package, or another; returns its process id."""
        command = [sys.executable, "-m", name, *map(str, arguments)]
        # where it can be imported from
        env = {"PYTHONPATH": str(CHECKOUT)}
        return self.processes.start(name.rpartition(".")[2], *command, env=env).pid

    def until_answers(self, url: str) -> None:
        self.processes.services[-1].until_answers(url)

    def body(self, size: int) -> Stored:
        """A file of so many bytes, no two MiB of which are alike."""
        if size not in self._bodies:
            payload, path = Payload(size), self.directory / f"body-{size}"
            with path.open("wb") as file:
                file.writelines(payload.chunks())
            self._bodies[size] = Stored(str(path), size, payload.sha512)
        return self._bodies[size]

    def origin(self, *sizes: int, rate: float = 0.0) -> "StaticOrigin":
        """The bare server, with a body of each size."""
        port = free_port()
        bodies = {f"{size:08x}": self.body(size) for size in sizes}
        told = {"port": port, "rate": rate, "bodies": {kind: asdict(body) for kind, body in bodies.items()}}
        pid = self.module("benchmarks.origin", json.dumps(told))
        origin = StaticOrigin(Server(pid, port))
        self.until_answers(f"{origin.server.url}/versions")
        return origin

    def node(self, origin: str, **options: object) -> Proxy:
        """The product, in front of ``origin``. Its directory is its own."""
        home = self.folder("node")
        told = {"max_size": "64GiB", "min_free": "256MiB", "shutdown_grace": 2, **options}
        proxy = Proxy(origin, home, self.processes.logs, told)
        self._proxies.append(proxy)
        proxy.start()
        return proxy

    def close(self) -> None:
        """End all of it.

        :raises ProxyMisbehaved: a node did not stop cleanly, or its log tells of a bug.
        """
        try:
            for proxy in self._proxies:
                if proxy.is_running:
                    proxy.stop()
        finally:
            for proxy in self._proxies:
                proxy.close()
            self.processes.stop()


@frozen
class StaticOrigin:
    """A running `benchmarks.origin`, and its images: as many of each size as one likes."""

    server: Server

    def image(self, size: int, number: int = 0) -> Image:
        return Image(f"{size:08x}-0000-4000-8000-{number:012x}", "nobody", Payload(size))

    def sent(self, image: Image) -> int:
        """Bytes of the image's body that were asked for and sent."""
        return int(call("GET", f"{self.server.url}/sent").json().get(image.path, 0))


def warm(node: Proxy, image: Image, token: str | None = None) -> Server:
    """Have the node hold the image, verified."""
    fetch(node.port, image.path, authorized(token))
    node.until_complete(image)
    return server_of(node)


def emptied(node: Proxy) -> None:
    """Have the node hold nothing, and nothing of it left to do."""
    node.purge()
    bodies = node.cache_dir / "bodies"
    node.until(lambda: not any(path.is_file() for path in bodies.rglob("*")), "an empty cache")
    time.sleep(_FREEING)


def server_of(proxy: Proxy) -> Server:
    return Server(proxy.service.pid, proxy.port)
