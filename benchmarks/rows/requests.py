"""Hits a second of a body of 4 KiB: what a request costs, when there is next to nothing to send."""

import pstats
import signal
import sys
from functools import partial
from pathlib import Path

from benchmarks import client, measure, nginx
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, at_least
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, warm
from tests.cloud.images import Image
from tests.cloud.ports import free_port
from tests.cloud.proxy import glancecache

KEY = "requests"
NODE, LOGGING = "txglancecache", "txglancecache with an access log"
ROUTE, NGINX = "bare klein route", "nginx, best tuning"
_SIZE = 4096
_CLIENTS = 16
_LINES = 25
_WAITING = ("<method 'poll' of 'select.epoll' objects>",)


def run(stage: Stage) -> Row:
    origin = stage.origin(_SIZE)
    image = origin.image(_SIZE)
    servers = {
        NODE: warm(stage.node(origin.server.url, authorization_ttl=3600, access_log="no"), image),
        LOGGING: warm(stage.node(origin.server.url, authorization_ttl=3600), image),
        ROUTE: _route(stage),
        NGINX: nginx.start(stage, origin.server.url).server,
    }
    fetch(servers[NGINX].port, image.path)
    window = stage.scale.slow_window
    turns = {
        name: partial(measure.window, server, Load(server.port, image.path, _CLIENTS, seconds=window))
        for name, server in servers.items()
    }
    samples = measure.interleaved(stage, "4 KiB bodies", turns)
    what = f"hits of a 4 KiB body, {_CLIENTS} clients, check cached"
    figures = [
        Figure(
            f"{what}: hits a second / {ROUTE}",
            samples.ratios("responses_per_second", NODE, ROUTE),
            target=at_least(0.9),
        ),
        Figure(
            f"{what}, each written to the access log: hits a second / {ROUTE}, without one",
            samples.ratios("responses_per_second", LOGGING, ROUTE),
        ),
        Figure(f"{what}: hits a second", samples.values(NODE, "responses_per_second"), unit="/s"),
    ]
    stage.say("  where the time goes")
    return Row(KEY, "Small bodies", figures, samples.by_server, text=_profile(stage, origin.server, image))


def _route(stage: Stage) -> Server:
    port = free_port()
    server = Server(stage.module("benchmarks.peers", "route", port, _SIZE), port)
    stage.until_answers(server.url)
    return server


def _profile(stage: Stage, origin: Server, image: Image) -> str:
    """A node of its own under cProfile, and the functions that it spent most time in."""
    home = stage.folder("profiled")
    port, manage = free_port(), free_port()
    twistd, *rest = glancecache(
        origin=origin.url,
        listen=f"tcp:{port}:interface=127.0.0.1",
        manage=f"tcp:{manage}:interface=127.0.0.1",
        cache_dir=home / "cache",
        authorization_ttl=3600,
    )
    profile = [f"--profile={home / 'profile'}", "--profiler=cprofile", "--savestats"]
    service = stage.processes.start("profiled", twistd, *profile, *rest)
    service.until_answers(f"http://127.0.0.1:{manage}/cache")
    fetch(port, image.path, times=2)
    came = client.run(Load(port, image.path, _CLIENTS, seconds=stage.scale.probing))
    service.popen.send_signal(signal.SIGTERM)
    service.popen.wait(30)
    return _table(home / "profile", came.responses)


def _table(path: Path, hits: int) -> str:
    """The profile as a table of microseconds for each hit, under the profiler."""
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]]
    stats = vars(pstats.Stats(str(path)))["stats"]
    waiting = {place for place in stats if place[2] in _WAITING}
    total = sum(row[2] for place, row in stats.items() if place not in waiting)
    lines = [
        "Where the time of a 4 KiB hit goes, as cProfile sees it, which slows the whole down:",
        f"{total * 1e6 / hits:.0f} µs for each of {hits:,} hits, without its waiting for something to do.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - Function",
        "     - Calls for each hit",
        "     - µs in itself",
        "     - µs with what it calls",
    ]
    for (file, _, function), row in sorted(stats.items(), key=lambda item: -item[1][2])[:_LINES]:
        if function in _WAITING:
            continue
        lines += [
            f"   * - ``{_short(file)}{function}``",
            f"     - {row[0] / hits:.1f}",
            f"     - {row[2] * 1e6 / hits:.1f}",
            f"     - {row[3] * 1e6 / hits:.1f}",
        ]
    return "\n".join(lines) + "\n"


def _short(file: str) -> str:
    """A module's path as one imports it."""
    for root in sorted(filter(None, sys.path), key=len, reverse=True):
        if file.startswith(root + "/"):
            return file.removeprefix(root + "/").removesuffix(".py").replace("/", ".") + ":"
    return "" if file == "~" else f"{Path(file).stem}:"
