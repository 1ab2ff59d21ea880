"""A download whose bytes are on disk and not in memory."""

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import measure, nginx
from benchmarks.client import Load, fetch
from benchmarks.figures import Figure, Sample, at_least, at_most
from benchmarks.measure import Prober
from benchmarks.result import Row
from benchmarks.stage import Server, Stage, sized, warm

KEY = "cold"
NODE, NGINX = "txglancecache", "nginx, aio threads"
_INTERVAL = 0.001
_LIBC = ctypes.CDLL(None, use_errno=True)
#: The part of a file that may stay in memory: a server that has sent a large page last can keep it for long.
_LEFT = 0.01
#: Seconds that the others may take to go.
_DROPPING = 5.0


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
    """Have next to nothing of the files below ``folder`` in memory.

    :raises NotCold: much of it still is.
    """
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(file)  # what is not on disk cannot be dropped
            deadline = time.monotonic() + _DROPPING
            while not _dropped(file):
                if time.monotonic() > deadline:
                    raise NotCold(f"{path} is still in memory")
                time.sleep(0.05)
        finally:
            os.close(file)


def _dropped(file: int) -> bool:
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return _in_memory(file) <= os.fstat(file).st_size / mmap.PAGESIZE * _LEFT


def _in_memory(file: int) -> int:
    """How many pages of the file are in memory. To try to read them would have them read ahead."""
    size = os.fstat(file).st_size
    if not size:
        return 0
    resident = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with mmap.mmap(file, size, flags=mmap.MAP_PRIVATE) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        failed = _LIBC.mincore(ctypes.byref(first), ctypes.c_size_t(size), resident)
        del first
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in resident)
