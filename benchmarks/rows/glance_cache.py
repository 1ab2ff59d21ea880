"""Hits beside Glance's own image cache, under gunicorn with two workers."""

from functools import partial

from benchmarks import client, measure
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, Samples, at_least, at_most
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, clients_of, sized, warm
from tests.cloud.glance import start_caching
from tests.cloud.images import Image, Images
from tests.cloud.install import install
from tests.cloud.payload import Payload

KEY = "glance-cache"
WORKERS = 2
NODE, GLANCE = "txglancecache, asking for every hit", "Glance's own cache"


def run(stage: Stage) -> Row:
    size, (one, several, *_) = stage.scale.image, stage.scale.clients
    installation = install()
    glance = start_caching(
        installation.bin, installation.template, installation.paste, stage.processes, workers=WORKERS
    )
    glance.wait()
    image = Images(glance.url, lambda user: None).create(Payload(size))
    # behind the product is the same Glance, which is asked about each hit as it asks itself
    servers = {
        NODE: warm(stage.node(glance.url, authorization_ttl=0), image),
        GLANCE: _hot(Server(glance.service.pid, int(glance.url.rpartition(":")[2])), image),
    }
    figures: list[Figure] = []
    everything = Samples()
    for clients in (one, several):
        turns = {
            name: partial(
                measure.window,
                server,
                Load(server.port, image.path, clients, seconds=stage.scale.slow_window),
            )
            for name, server in servers.items()
        }
        samples = measure.interleaved(stage, clients_of(clients), turns)
        figures += _figures(f"hit, {sized(size)}, {clients_of(clients)}", samples)
        for name, turn in samples.by_server.items():
            everything.by_server[f"{name}; {clients}"] = turn
    return Row(KEY, "Hits beside Glance's own cache", figures, everything.by_server)


def _hot(server: Server, image: Image) -> Server:
    """Have Glance hold the image in its cache, and answer from there."""
    client.run(
        Load(server.port, image.path, requests=1, size=image.size)
    )  # it does not say the size of a miss
    fetch(server.port, image.path)
    return server


def _figures(what: str, samples: Samples) -> list[Figure]:
    return [
        Figure(
            f"{what}: throughput / {GLANCE}",
            samples.ratios("bytes_per_second", NODE, GLANCE),
            target=at_least(1.4),
        ),
        Figure(
            f"{what}: CPU per GiB / {GLANCE}",
            samples.ratios("cpu_per_gib", NODE, GLANCE),
            target=at_most(0.6),
        ),
        Figure(f"{what}: memory / {GLANCE}", samples.ratios("pss", NODE, GLANCE), target=at_most(0.25)),
    ]
