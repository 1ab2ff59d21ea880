"""How long a node with many images takes to be there again."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import pytest
from attrs import frozen

from tests.cloud.processes import answers, environment, start
from tests.cloud.proxy import Proxy, glancecache
from tests.faults.campaign import Campaign
from tests.faults.stock import stock

ORIGIN = "http://127.0.0.1:1"
#: Seconds between two looks at whether it answers.
LOOK = 0.005


@frozen
class Took:
    """Seconds: by the clock, and of a processor. What else the machine does is in the former only."""

    clock: float
    worked: float

    @classmethod
    def median(cls, all_of_them: Sequence["Took"]) -> "Took":
        return cls(median(took.clock for took in all_of_them), median(took.worked for took in all_of_them))

    def __str__(self) -> str:
        return f"{self.clock:.2f} s ({self.worked:.2f} s of a processor)"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    # A hundred thousand files are not worth keeping for a look.
    subprocess.run(["rm", "-r", tmp_path], check=True)


def first_answer(proxy: Proxy) -> Took:
    """Start it, and wait until it answers."""
    begun = time.monotonic()
    service = proxy.launch()
    service.until(lambda: answers(f"{proxy.manage_url}/cache"), "an answer", look=LOOK)
    return Took(time.monotonic() - begun, processor_time(service.pid))


def processor_time(pid: int) -> float:
    """Seconds that a process has had of the machine's processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def loading_of_modules(home: Path) -> Took:
    """Load the program, and do nothing."""
    begun, before = time.monotonic(), os.times()
    service = start(
        "version", [*glancecache(), "--version"], home / "version.log", env=environment(), cwd=home
    )
    assert service.popen.wait(60) == 0
    took, after = time.monotonic() - begun, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(took, used)


@pytest.mark.parametrize(("count", "budget"), [(10_000, 2.0), (100_000, 8.0)])
def test_start_with_many_images(campaign: Campaign, home: Path, count: int, budget: float) -> None:
    """Every image is there when the node first answers, and that is soon: the loading of modules is most of
    it with ten thousand. `budget`: seconds of a processor, twice of what it takes. `--check` keeps off while
    it runs."""
    if count > 10_000:
        campaign.whole_only()
    proxy = Proxy(ORIGIN, home, home, {"max_entries": count, "min_free": 0, "max_size": "100GiB"})
    stock(proxy.cache_dir, ORIGIN, count)
    loads, starts = [], []
    lost = 0
    loading_of_modules(home)  # from the disk, this time
    try:
        for _ in range(campaign.scale(1, 5)):
            loads.append(loading_of_modules(home))
            starts.append(first_answer(proxy))
            lost += count - proxy.status()["entries"]
            refused = proxy.check()
            proxy.stop()
    finally:
        proxy.close()
    took, modules = Took.median(starts), Took.median(loads)
    assert lost == 0
    said = f"twistd glancecache: cache directory {proxy.cache_dir} is in use by another process\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", said)
    assert took.worked < budget, starts
    begun = time.monotonic()
    checked = proxy.check()
    assert checked.stdout.endswith("nothing wrong, nothing left over\n"), checked.stdout
    campaign.record(
        "Crash",
        f"Start with {count:,} images",
        times=len(starts),
        clients=f"the first answer after {took}, {modules} of it for loading modules (each the median); "
        f"--check took {time.monotonic() - begun:.1f} s",
        lost=f"{lost} of {count:,} images",
    )
