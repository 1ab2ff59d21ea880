"""How long a small request to the management site waits while large bodies go out on the same reactor."""

from collections.abc import Callable
from functools import partial

from benchmarks import measure, nginx
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, Sample, at_most
from benchmarks.measure import Prober
from benchmarks.result import Row
from benchmarks.stage import Stage, warm

KEY = "fairness"
NODE, NGINX = "txglancecache", "nginx, best tuning"
_INTERVAL = 0.005
_SETTLE = 0.4
_AFTER = 0.5  # seconds for which the load outlasts the looking


def run(stage: Stage) -> Row:
    size = stage.scale.image
    origin = stage.origin(size)
    image = origin.image(size)
    node = stage.node(origin.server.url)
    warm(node, image)
    other = nginx.start(stage, origin.server.url).server
    fetch(other.port, image.path)
    clients = max(stage.scale.clients)

    def probe(port: int, small_port: int, small: str) -> Sample:
        seconds = stage.scale.probing
        load = Load(port, image.path, clients, seconds=seconds + _AFTER, settle=_SETTLE)
        with measure.under(load):
            return Prober(small_port, small, _INTERVAL).for_seconds(seconds).sample()

    turns: dict[str, Callable[[], Sample]] = {
        NODE: partial(probe, node.port, node.manage_port, "/cache"),
        NGINX: partial(probe, other.port, other.port, "/small"),
    }
    samples = measure.interleaved(stage, f"{clients} downloads", turns)
    what = f"small management request while {clients} downloads run"
    milliseconds = {
        (name, value): [second * 1000 for second in samples.values(name, value)]
        for name in (NODE, NGINX)
        for value in ("p50", "p99")
    }
    figures = [
        Figure(f"{what}: p99", milliseconds[NODE, "p99"], "ms", at_most(15)),
        Figure(f"{what}: p50", milliseconds[NODE, "p50"], "ms"),
        Figure(f"small request to {NGINX} meanwhile: p99", milliseconds[NGINX, "p99"], "ms"),
    ]
    return Row(KEY, "Small requests beside large bodies", figures, samples.by_server)
