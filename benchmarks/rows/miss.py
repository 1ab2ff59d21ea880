"""A miss of a large image, from an origin that is faster than any cache."""

import itertools
from collections.abc import Callable
from functools import partial

from benchmarks import measure, nginx
from benchmarks.client import Load
from benchmarks.figures import Figure, Sample, at_least, at_most
from benchmarks.nginx import Nginx
from benchmarks.result import Row
from benchmarks.stage import Stage, StaticOrigin, emptied, server_of, sized
from tests.cloud.proxy import Proxy

KEY = "miss"
NODE, BEST, DEFAULT, DIRECT = (
    "txglancecache, digest check off",
    "nginx, best tuning",
    "nginx, default buffers",
    "straight from the origin",
)


def run(stage: Stage) -> Row:
    size = stage.scale.image
    origin = stage.origin(size)
    url, numbers = origin.server.url, itertools.count(1)
    turns: dict[str, Callable[[], Sample]] = {
        NODE: partial(_node, stage.node(url, digest_check="off"), origin, size, numbers),
        BEST: partial(_nginx, nginx.start(stage, url, nginx.BEST_MISS), origin, size, numbers),
        DEFAULT: partial(_nginx, nginx.start(stage, url, nginx.BEST), origin, size, numbers),
        DIRECT: lambda: measure.transfer(
            origin.server, Load(origin.server.port, origin.image(size).path, requests=1)
        ),
    }
    for warmed_up in turns.values():
        warmed_up()
    samples = measure.interleaved(stage, "misses", turns, memory=size + size // 2)
    what = f"miss, {sized(size)}, digest check off"
    figures = [
        Figure(
            f"{what}: throughput / {BEST}",
            samples.ratios("bytes_per_second", NODE, BEST),
            target=at_least(1.1),
        ),
        Figure(
            f"{what}: CPU per GiB / {BEST}", samples.ratios("cpu_per_gib", NODE, BEST), target=at_most(1.0)
        ),
        Figure(f"{what}: throughput / {DEFAULT}", samples.ratios("bytes_per_second", NODE, DEFAULT)),
    ]
    return Row(KEY, f"Misses of a {sized(size)} image", figures, samples.by_server)


def _node(node: Proxy, origin: StaticOrigin, size: int, numbers: "itertools.count[int]") -> Sample:
    image = origin.image(size, next(numbers))
    sample = measure.transfer(server_of(node), Load(node.port, image.path, requests=1))
    # before its pages are written out, so that the next turn has the disk for itself
    emptied(node)
    return sample


def _nginx(cache: Nginx, origin: StaticOrigin, size: int, numbers: "itertools.count[int]") -> Sample:
    image = origin.image(size, next(numbers))
    sample = measure.transfer(cache.server, Load(cache.server.port, image.path, requests=1))
    cache.empty()
    return sample
