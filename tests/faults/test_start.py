"""How long a node with many images takes to be there again."""

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from tests.cloud.processes import environment, start
from tests.cloud.proxy import Proxy, glancecache
from tests.faults.campaign import Campaign
from txglancecache.extents import Extents
from txglancecache.store.directory import Directory
from txglancecache.store.index import Index
from txglancecache.store.schema import Record

ORIGIN = "http://127.0.0.1:1"
SIZE = 4096
#: Seconds of this machine's time for the modules, and for so many images; several times of what it takes.
MODULES, IMAGES_A_SECOND = 5.0, 5_000


def fill(cache_dir: Path, count: int) -> None:
    """Images of one block each, said to be whole."""
    directory = Directory.open(cache_dir)
    index = Index(directory.index_path, Clock(), maybeDeferred)
    index.load()
    for number in range(count):
        image_id = f"00000000-0000-4000-8000-{number:012x}"
        key = hashlib.sha256(f"{ORIGIN}\n{image_id}".encode()).hexdigest()[:40]
        path = directory.body_path(f"{key}.{number:08x}")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, bytes(SIZE))
        os.close(fd)
        index.put(
            Record(
                key=key,
                origin=ORIGIN,
                image_id=image_id,
                body=path.name,
                size=SIZE,
                algorithm="sha512",
                digest="0" * 128,
                checksum="0" * 32,
                extents=Extents.of((0, SIZE)),
                verified=True,
                hits=number % 8,
                created=1.7e9,
                last_access=1.7e9 + number,
                pinned=False,
            )
        )
    Deferred.fromCoroutine(index.close())
    directory.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    # A hundred thousand files are not worth keeping for a look.
    subprocess.run(["rm", "-r", tmp_path], check=True)


def processor_time(pid: int) -> float:
    """Seconds that a process has had of the machine's processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def modules_time(home: Path) -> tuple[float, float]:
    """Seconds, on the clock and of a processor, that it takes to load the program and do nothing."""
    begun, before = time.monotonic(), os.times().children_user + os.times().children_system
    service = start(
        "version", [*glancecache(), "--version"], home / "version.log", env=environment(), cwd=home
    )
    assert service.popen.wait(60) == 0
    used = os.times().children_user + os.times().children_system - before
    return time.monotonic() - begun, used


def test_start_with_many_images(campaign: Campaign, home: Path) -> None:
    """Every image is there when the node first answers, and that is soon: the loading of modules is most of
    it with ten thousand. `--check` keeps off while it runs."""
    count = campaign.scale(10_000, 100_000)
    proxy = Proxy(ORIGIN, home, home, {"max_entries": count, "min_free": 0, "max_size": "100GiB"})
    fill(proxy.cache_dir, count)
    clock, used = modules_time(home)
    begun = time.monotonic()
    try:
        proxy.start()
        took, worked = time.monotonic() - begun, processor_time(proxy.service.pid)
        there = proxy.status()["entries"]
        refused = proxy.check()
        proxy.stop()
    finally:
        proxy.close()
    assert there == count
    said = f"twistd glancecache: cache directory {proxy.cache_dir} is in use by another process\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", said)
    assert worked < MODULES + count / IMAGES_A_SECOND
    begun = time.monotonic()
    checked = proxy.check()
    assert checked.stdout.endswith("nothing wrong, nothing left over\n"), checked.stdout
    campaign.record(
        "Crash",
        f"Start with {count:,} images",
        times=1,
        clients=f"the first answer after {took:.1f} s ({worked:.1f} s of a processor), {clock:.1f} s "
        f"({used:.1f} s) of it for loading modules; --check took {time.monotonic() - begun:.1f} s",
        lost=f"{count - there} of {count:,} images",
    )
