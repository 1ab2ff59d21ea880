"""Memory with a thousand downloads of one hot image under way."""

import time

from benchmarks import measure, nginx, processtree
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, Samples, at_most, below
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, warm
from tests.cloud.payload import MIB

KEY = "crowd"
NODE, NGINX = "txglancecache", "nginx, best tuning"
_KIB = 1024
_CONNECTING = 1.0  # seconds until all are served
_LOOKS = 5


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
        _watch(samples, name, server, Load(server.port, image.path, crowd))
    what = f"memory with {crowd:,} downloads of a hot image under way"
    figures = [
        Figure(f"{what}: PSS", _scaled(samples, NODE, "pss", MIB), "MiB", at_most(120)),
        Figure(f"{what}: for each download", _scaled(samples, NODE, "each", _KIB), "KiB", below(40)),
        Figure(f"{what}: PSS of {NGINX}", _scaled(samples, NGINX, "pss", MIB), "MiB"),
    ]
    return Row(KEY, "A thousand downloads", figures, samples.by_server)


def _watch(samples: Samples, name: str, server: Server, load: Load) -> None:
    idle = processtree.pss(server.pid)
    seconds = _CONNECTING + 0.4 * _LOOKS
    with measure.under(Load(load.port, load.path, load.clients, seconds=seconds, settle=_CONNECTING)):
        for _ in range(_LOOKS):
            time.sleep(0.3)
            used = processtree.pss(server.pid)
            samples.add(name, {"pss": used, "idle": idle, "each": (used - idle) / load.clients})


def _scaled(samples: Samples, name: str, value: str, unit: int) -> list[float]:
    return [bytes_used / unit for bytes_used in samples.values(name, value)]
