"""Hits for which the origin, a real Glance behind a real Keystone, is asked every time: the product beside
nginx with ``auth_request``."""

from functools import partial

from benchmarks import measure, nginx
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, Samples, at_least
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, clients_of, sized, warm
from tests.cloud.client import authorized, request
from tests.cloud.cloud import Cloud
from tests.cloud.images import Image
from tests.cloud.install import install
from tests.cloud.payload import MIB, Payload

KEY = "checked"
NODE, NGINX = "txglancecache", "nginx, auth_request"
_SIZES = (MIB, 64 * MIB)
_CLIENTS = (1, 4)


class NotChecked(Exception):
    """A server does not do what is compared."""


def run(stage: Stage) -> Row:
    cloud = Cloud.start(install(), stage.processes)
    token = cloud.token("alice")
    node = stage.node(cloud.glance.url, authorization_ttl=0)
    figures: list[Figure] = []
    everything = Samples()
    for size in _SIZES:
        image = cloud.images.create(Payload(size))
        other = nginx.start(stage, cloud.glance.url, ask_first_for=size)
        fetch(other.server.port, image.path, authorized(token))
        if not other.holds(size):
            raise NotChecked("nginx does not keep the image, so there is no hit to be checked")
        servers = {NODE: warm(node, image, token), NGINX: other.server}
        for server in servers.values():
            _refuses_strangers(server, image)
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
            samples = measure.interleaved(stage, f"{sized(size)}, {clients_of(clients)}", turns)
            what = f"hit with its check, {sized(size)}, {clients_of(clients)}"
            figures.append(
                Figure(
                    f"{what}: throughput / {NGINX}",
                    samples.ratios("bytes_per_second", NODE, NGINX),
                    target=at_least(1.0),
                )
            )
            for name, turn in samples.by_server.items():
                everything.by_server[f"{name}; {sized(size)}, {clients}"] = turn
    return Row(KEY, "Hits with their check", figures, everything.by_server)


def _refuses_strangers(server: Server, image: Image) -> None:
    """A server that hands the image to whoever asks would not be doing the same work.

    :raises NotChecked: it does.
    """
    if (status := request("GET", server.url + image.path, token="a stranger's").status) < 400:
        raise NotChecked(f"a stranger was answered {status}")
