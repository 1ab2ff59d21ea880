"""How long a node with many images takes to be there again."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import pytest
from attrs import frozen

from tests.cloud.processes import answers
from tests.cloud.proxy import Proxy
from tests.faults.campaign import Campaign
from tests.faults.stock import stock

ORIGIN = "http://127.0.0.1:1"
#: Seconds between two looks at how far it is.
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


def start(proxy: Proxy) -> tuple[Took, Took]:
    """Until it has taken its directory, for which it has to be loaded, and until it answers."""
    begun = time.monotonic()
    service = proxy.launch()

    def until(ready: Callable[[], bool], what: str) -> Took:
        service.until(ready, what, look=LOOK)
        return Took(time.monotonic() - begun, processor_time(service.pid))

    return (
        until(lambda: proxy.has_directory, "its directory"),
        until(lambda: answers(f"{proxy.manage_url}/cache"), "an answer"),
    )


def processor_time(pid: int) -> float:
    """Seconds that a process has had of the machine's processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(("count", "times", "budget"), [(10_000, 5, 2.0), (100_000, 3, 8.0)])
def test_start_with_many_images(
    campaign: Campaign, home: Path, count: int, times: int, budget: float
) -> None:
    """Every image is there when the node first answers, and that is soon: the loading of modules is most of
    it with ten thousand. `budget`: seconds of a processor, twice of what it takes. `--check` keeps off while
    it runs."""
    if count > 10_000:
        campaign.whole_only()
    proxy = Proxy(ORIGIN, home, home, {"max_entries": count, "min_free": 0, "max_size": "100GiB"})
    stock(proxy.cache_dir, ORIGIN, count)
    loads, starts = [], []
    lost = 0
    try:
        for _ in range(campaign.scale(1, times)):
            loaded, answered = start(proxy)
            loads.append(loaded)
            starts.append(answered)
            lost += count - proxy.status()["entries"]
            refused = proxy.check()
            proxy.stop()
    finally:
        proxy.close()
    assert lost == 0
    said = f"twistd glancecache: cache directory {proxy.cache_dir} is in use by another process\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", said)
    took = Took.median(starts)
    assert took.worked < budget, starts
    begun = time.monotonic()
    checked = proxy.check()
    assert checked.stdout.endswith("nothing wrong, nothing left over\n"), checked.stdout
    campaign.record(
        "Crash",
        f"Start with {count:,} images",
        times=len(starts),
        clients=f"the first answer after {took}, {Took.median(loads)} of it for loading modules (each the "
        f"median); --check took {time.monotonic() - begun:.1f} s",
        lost=f"{lost} of {count:,} images",
    )
