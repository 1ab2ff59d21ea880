"""A boot storm: many clients at once want an image that no cache has, from an origin on a thin link."""

import itertools
from collections.abc import Callable
from functools import partial

from benchmarks import client, measure, nginx
from benchmarks.client import Load, LoadFailed
from benchmarks.figures import Figure, Sample, at_most
from benchmarks.result import Row
from benchmarks.rows.glance_cache import WORKERS
from benchmarks.stage import Server, Stage, StaticOrigin, emptied, server_of, sized
from tests.cloud.glance import start_caching
from tests.cloud.images import Image, Images
from tests.cloud.install import install
from tests.cloud.payload import Payload

KEY = "storm"
NODE, NGINX, GLANCE, DIRECT = (
    "txglancecache",
    "nginx, proxy_cache_lock",
    "Glance's own cache",
    "one client, straight from the origin",
)


def run(stage: Stage) -> Row:
    scale = stage.scale
    size = scale.storm_image
    origin = stage.origin(size, rate=scale.storm_rate)
    url, numbers = origin.server.url, itertools.count(1)
    node, cache = stage.node(url), nginx.start(stage, url, nginx.BEST_MISS)

    def of_node() -> Sample:
        image = origin.image(size, next(numbers))
        sample = _storm(stage, server_of(node), origin, image)
        emptied(node)
        return sample

    def of_nginx() -> Sample:
        image = origin.image(size, next(numbers))
        sample = _storm(stage, cache.server, origin, image)
        cache.empty()
        return sample

    turns: dict[str, Callable[[], Sample]] = {
        NODE: of_node,
        NGINX: of_nginx,
        DIRECT: partial(_alone, origin, size),
    }
    what = f"{scale.storm_clients} cold clients of one {sized(size)} image"
    samples = measure.interleaved(stage, what, turns)
    samples.add(GLANCE, _glance(stage, origin, next(numbers)))
    late = f"{what}: time of the last / one direct download"
    transfers = f"{what}: bytes from the origin, in images"
    given_up = f"given up after {scale.storm_patience:.0f} s"
    note = given_up if samples.by_server[GLANCE][0]["given_up"] else ""
    figures = [
        Figure(transfers, samples.values(NODE, "images"), "images", at_most(1.0)),
        Figure(late, samples.ratios("seconds", NODE, DIRECT), target=at_most(1.1)),
        Figure(f"{transfers}; {NGINX}", samples.values(NGINX, "images"), "images"),
        Figure(f"{late}; {NGINX}", samples.ratios("seconds", NGINX, DIRECT)),
        Figure(
            f"{transfers}; {GLANCE}",
            samples.values(GLANCE, "images"),
            "images",
            note=note,
        ),
        Figure(
            f"{late}; {GLANCE}",
            [samples.median(GLANCE, "seconds") / samples.median(DIRECT, "seconds")],
            note=note and f"or longer: {note}",
        ),
    ]
    return Row(KEY, "A boot storm", figures, samples.by_server)


def _alone(origin: StaticOrigin, size: int) -> Sample:
    return measure.transfer(origin.server, Load(origin.server.port, origin.image(size).path, requests=1))


def _storm(stage: Stage, server: Server, origin: StaticOrigin, image: Image) -> Sample:
    load = Load(server.port, image.path, stage.scale.storm_clients, requests=1)
    sample = measure.transfer(server, load)
    return {**sample, "images": origin.sent(image) / stage.scale.storm_image}


def _glance(stage: Stage, origin: StaticOrigin, number: int) -> Sample:
    """Glance with its cache, its image in the same origin. It does not coalesce, so that the storm takes as
    long as all of the transfers together; it is given up after a while."""
    scale = stage.scale
    installation = install()
    glance = start_caching(
        installation.bin, installation.template, installation.paste, stage.processes, workers=WORKERS
    )
    glance.wait()
    behind = origin.image(scale.storm_image, number)
    images = Images(glance.url, lambda user: None)
    image = images.link(origin.server.url + behind.path, Payload(scale.storm_image))
    port = int(glance.url.rpartition(":")[2])
    patience = scale.storm_patience
    load = Load(
        port,
        image.path,
        scale.storm_clients,
        requests=1,
        deadline=patience,
        size=scale.storm_image,
    )
    try:
        seconds, given_up = client.run(load).last, 0
    except LoadFailed:
        seconds, given_up = patience, 1
    sent = origin.sent(behind) / scale.storm_image
    return {"seconds": seconds, "images": sent, "given_up": given_up}
