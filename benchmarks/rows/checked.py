"""Hits for which the origin, a real Glance behind a real Keystone, is asked every time: the product beside
nginx with ``auth_request``."""

from functools import partial

from benchmarks import measure, nginx
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, Samples, at_least
from benchmarks.result import Row
from benchmarks.stage import Stage, warm
from tests.cloud.client import authorized
from tests.cloud.cloud import Cloud
from tests.cloud.install import install
from tests.cloud.payload import MIB, Payload

KEY = "checked"
NODE, NGINX = "txglancecache", "nginx, auth_request"
_SIZES = (MIB, 64 * MIB)
_CLIENTS = (1, 4)


def run(stage: Stage) -> Row:
    cloud = Cloud.start(install(), stage.processes)
    token = cloud.token("alice")
    node = stage.node(cloud.glance.url, authorization_ttl=0)
    figures: list[Figure] = []
    everything = Samples()
    for size in _SIZES:
        image = cloud.images.create(Payload(size))
        servers = {
            NODE: warm(node, image, token),
            NGINX: nginx.start(stage, cloud.glance.url, ask_first_for=size).server,
        }
        fetch(servers[NGINX].port, image.path, authorized(token))
        for clients in _CLIENTS:
            turns = {
                name: partial(
                    measure.window,
                    server,
                    Load(
                        server.port,
                        image.path,
                        clients,
                        seconds=stage.scale.slow_window,
                        headers=authorized(token),
                    ),
                )
                for name, server in servers.items()
            }
            samples = measure.interleaved(stage, f"{size // MIB} MiB, {clients} clients", turns)
            what = f"hit with its check, {size // MIB} MiB, {clients} client{'s' * (clients > 1)}"
            figures.append(
                Figure(
                    f"{what}: throughput / {NGINX}",
                    samples.ratios("bytes_per_second", NODE, NGINX),
                    target=at_least(1.0),
                )
            )
            for name, turn in samples.by_server.items():
                everything.by_server[f"{name}; {size // MIB} MiB, {clients}"] = turn
    return Row(KEY, "Hits with their check", figures, everything.by_server)
