"""Misses from a real Glance, with the digest check, beside a download straight from it."""

import hashlib
import time
from collections.abc import Callable
from functools import partial

from benchmarks import measure
from benchmarks.client import Load
from benchmarks.figures import Figure, Sample, at_least
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, emptied, server_of
from tests.cloud.client import authorized
from tests.cloud.cloud import Cloud
from tests.cloud.glance import FILE_STORE, SWIFT_STORE
from tests.cloud.images import Image
from tests.cloud.install import install
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy

KEY = "miss-from-glance"
BEFORE, AFTER, DIRECT, HASHING = (
    "txglancecache, check before the last block",
    "txglancecache, check after the last block",
    "straight from Glance",
    "sha512 on one core",
)


def run(stage: Stage) -> Row:
    cloud = Cloud.start(install(), stage.processes)
    token = cloud.token("alice")
    size = stage.scale.glance_image
    before = stage.node(cloud.glance.url, digest_check="before")
    after = stage.node(cloud.glance.url, digest_check="after")
    glance = Server(cloud.glance.service.pid, int(cloud.glance.url.rpartition(":")[2]))
    figures: list[Figure] = []
    everything: dict[str, list[Sample]] = {}
    for store in (SWIFT_STORE, FILE_STORE):
        image = cloud.images.create(Payload(size), store=store)
        turns: dict[str, Callable[[], Sample]] = {
            BEFORE: partial(_miss, before, image, token),
            DIRECT: partial(_transfer, glance, image, token),
        }
        if store == FILE_STORE:
            turns |= {AFTER: partial(_miss, after, image, token), HASHING: partial(_hash, size)}
        for warmed_up in turns.values():
            warmed_up()
        name = "file" if store == FILE_STORE else store
        samples = measure.interleaved(stage, f"{name} store", turns, memory=size + size // 2)
        what = f"miss from a real Glance, {name} store, digest check on: throughput /"
        ratio = partial(samples.ratios, "bytes_per_second")
        if store == SWIFT_STORE:
            figures.append(Figure(f"{what} {DIRECT}", ratio(BEFORE, DIRECT), target=at_least(0.97)))
        else:
            figures += [
                Figure(f"{what} {HASHING}", ratio(BEFORE, HASHING), target=at_least(0.9)),
                Figure(
                    f"{what} {DIRECT}, the check after instead of before the last block",
                    ratio(AFTER, DIRECT),
                    target=at_least(0.55),
                ),
                Figure(f"{what} {DIRECT}", ratio(BEFORE, DIRECT)),
            ]
        for server, turn in samples.by_server.items():
            everything[f"{server}; {name} store"] = turn
    return Row(KEY, "Misses from a real Glance", figures, everything)


def _miss(node: Proxy, image: Image, token: str) -> Sample:
    sample = _transfer(server_of(node), image, token)
    node.until_complete(image)
    emptied(node)
    return sample


def _transfer(server: Server, image: Image, token: str) -> Sample:
    load = Load(server.port, image.path, requests=1, headers=authorized(token))
    return measure.transfer(server, load)


def _hash(size: int) -> Sample:
    """As fast as one core hashes what it has at hand."""
    digest, block = hashlib.sha512(), bytes(MIB)
    began = time.monotonic()
    for _ in range(size // MIB):
        digest.update(block)
    return {"bytes_per_second": size / (time.monotonic() - began)}
