"""A download whose bytes are on disk and not in memory."""

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import measure, nginx
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, Sample, at_least, at_most
from benchmarks.measure import Prober
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, sized, warm
from tests.cloud.payload import MIB

KEY = "cold"
NODE, NGINX = "txglancecache", "nginx, aio threads"
_INTERVAL = 0.001


class NotCold(Exception):
    """The kernel keeps pages in memory that it was told to drop."""


def run(stage: Stage) -> Row:
    size = stage.scale.image
    origin = stage.origin(size)
    image = origin.image(size)
    node = stage.node(origin.server.url)
    served = warm(node, image)
    other = nginx.start(stage, origin.server.url, nginx.THREADS)
    fetch(other.server.port, image.path)

    def download(server: Server, folder: Path, small_port: int, small: str) -> Sample:
        load = Load(server.port, image.path, requests=1)
        drop_pages(folder)
        sample = measure.transfer(server, load)
        # once more for the stalls: to look for them takes time from the download
        drop_pages(folder)
        with Prober(small_port, small, _INTERVAL).meanwhile() as latency:
            measure.transfer(server, load)
        return {**sample, **latency.sample()}

    turns: dict[str, Callable[[], Sample]] = {
        NODE: partial(download, served, node.cache_dir / "bodies", node.manage_port, "/cache/health"),
        NGINX: partial(download, other.server, other.cache_dir, other.server.port, "/small"),
    }
    samples = measure.interleaved(stage, "cold", turns)
    what = f"hit of a {sized(size)} image that is not in memory"
    figures = [
        Figure(
            f"{what}: throughput / {NGINX}",
            samples.ratios("bytes_per_second", NODE, NGINX),
            target=at_least(0.95),
        ),
        Figure(
            f"{what}: the longest that anything else waits for the reactor",
            [second * 1000 for second in samples.values(NODE, "longest")],
            "ms",
            at_most(20),
        ),
        Figure(
            f"{what}: the same of {NGINX}",
            [second * 1000 for second in samples.values(NGINX, "longest")],
            "ms",
        ),
    ]
    return Row(KEY, "From a cold disk", figures, samples.by_server)


def drop_pages(folder: Path) -> None:
    """Have nothing of the files below ``folder`` in memory.

    :raises NotCold: some of it still is.
    """
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(file)  # what is not on disk cannot be dropped
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            if any(_in_memory(file, at) for at in range(0, os.fstat(file).st_size, 64 * MIB)):
                raise NotCold(f"{path} is still in memory")
        finally:
            os.close(file)


def _in_memory(file: int, at: int) -> bool:
    try:
        return os.preadv(file, [bytearray(1)], at, os.RWF_NOWAIT) > 0
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        raise
