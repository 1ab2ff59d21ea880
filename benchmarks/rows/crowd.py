"""Memory with a thousand downloads of one hot image under way."""

import time
from pathlib import Path

from benchmarks import measure, nginx, processtree
from benchmarks.client import Load, LoadFailed, fetch
from benchmarks.figures import Figure, Samples, at_most, below
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, warm
from tests.cloud.payload import MIB

KEY = "crowd"
NODE, NGINX = "txglancecache", "nginx, best tuning"
_KIB = 1024
_ESTABLISHED = "01"
_LOOKS = 5
_BETWEEN = 0.3  # seconds
_LASTS = 8.0  # seconds, the time to connect included


def run(stage: Stage) -> Row:
    size = stage.scale.image
    origin = stage.origin(size)
    image = origin.image(size)
    servers = {
        NODE: warm(stage.node(origin.server.url), image),
        NGINX: nginx.start(stage, origin.server.url).server,
    }
    fetch(servers[NGINX].port, image.path)
    samples, crowd = Samples(), stage.scale.crowd
    for name, server in servers.items():
        stage.say(f"  {crowd} downloads from {name}")
        _watch(samples, name, server, Load(server.port, image.path, crowd, seconds=_LASTS))
    what = f"memory with {crowd:,} downloads of a hot image under way"
    figures = [
        Figure(f"{what}: PSS", _scaled(samples, NODE, "pss", MIB), "MiB", at_most(120)),
        Figure(f"{what}: for each download", _scaled(samples, NODE, "each", _KIB), "KiB", below(40)),
        Figure(f"{what}: PSS of {NGINX}", _scaled(samples, NGINX, "pss", MIB), "MiB"),
    ]
    return Row(KEY, "A thousand downloads", figures, samples.by_server)


def _watch(samples: Samples, name: str, server: Server, load: Load) -> None:
    idle = processtree.pss(server.pid)
    latest = time.monotonic() + _LASTS
    with measure.under(load):
        while _connected(load.port) < load.clients and time.monotonic() < latest:
            time.sleep(0.1)
        for _ in range(_LOOKS):
            time.sleep(_BETWEEN)
            if (still := _connected(load.port)) < load.clients:
                raise LoadFailed(f"only {still} of {load.clients} are connected")
            used = processtree.pss(server.pid)
            samples.add(name, {"pss": used, "idle": idle, "each": (used - idle) / load.clients})


def _connected(port: int) -> int:
    """Connections that the server on this port has now."""
    local = f":{port:04X}"
    fields = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(line[1].endswith(local) and line[3] == _ESTABLISHED for line in fields)


def _scaled(samples: Samples, name: str, value: str, unit: int) -> list[float]:
    return [bytes_used / unit for bytes_used in samples.values(name, value)]
