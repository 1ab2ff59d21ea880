"""Hits of a large image: the product beside nginx, tuned twice, and beside a bare ``sendfile`` loop."""

from functools import partial

from benchmarks import measure, nginx
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, Samples, Target, at_least, at_most
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, clients_of, sized, warm
from tests.cloud.ports import free_port

KEY = "hits"
NODE, BEST, USUAL, ALL_CORES, LOOP, FILE = (
    "txglancecache",
    "nginx, best tuning",
    "nginx, usual tuning",
    "nginx, best tuning, a worker for each core",
    "bare sendfile loop",
    "Twisted static.File",
)


class NotAHit(Exception):
    """What was measured did not come from a cache, or not from all of them."""


def run(stage: Stage) -> Row:
    size = stage.scale.image
    origin = stage.origin(size)
    image = origin.image(size)
    servers = {
        NODE: warm(stage.node(origin.server.url), image),
        BEST: nginx.start(stage, origin.server.url, nginx.BEST).server,
        USUAL: nginx.start(stage, origin.server.url, nginx.USUAL).server,
        ALL_CORES: nginx.start(stage, origin.server.url, nginx.Tuning(workers=0)).server,
        LOOP: stage.origin(size).server,
        FILE: _plain_file(stage, stage.body(size).path),
    }
    for name, server in servers.items():  # the second time it is a hit
        if fetch(server.port, image.path, times=2) != 2 * size:
            raise NotAHit(f"{name} has another body")
    fetched = origin.sent(image)
    figures: list[Figure] = []
    everything = Samples()
    for clients in stage.scale.clients:
        load = partial(Load, path=image.path, clients=clients, seconds=stage.scale.window)
        turns = {name: partial(measure.window, server, load(server.port)) for name, server in servers.items()}
        samples = measure.interleaved(stage, clients_of(clients), turns)
        figures += _figures(f"hit, {sized(size)}, {clients_of(clients)}", samples)
        for name, turn in samples.by_server.items():
            everything.by_server[f"{name}; {clients}"] = turn
    if origin.sent(image) != fetched:
        raise NotAHit("the origin was asked for the body again")
    return Row(KEY, f"Hits of a {sized(size)} image", figures, everything.by_server)


def _figures(what: str, samples: Samples) -> list[Figure]:
    def speed(of: str, target: Target | None = None) -> Figure:
        return Figure(
            f"{what}: throughput / {of}",
            samples.ratios("bytes_per_second", NODE, of),
            target=target,
        )

    return [
        speed(BEST, at_least(1.0)),
        speed(USUAL, at_least(1.15)),
        speed(LOOP, at_least(0.85)),
        Figure(
            f"{what}: CPU per GiB / {BEST}", samples.ratios("cpu_per_gib", NODE, BEST), target=at_most(1.0)
        ),
        speed(ALL_CORES),
        speed(FILE),
    ]


def _plain_file(stage: Stage, path: str) -> Server:
    port = free_port()
    server = Server(stage.module("benchmarks.peers", "file", port, path), port)
    stage.until_answers(f"{server.url}/")
    return server
