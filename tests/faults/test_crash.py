"""A node that is killed at any instant serves nothing wrong afterwards, and has lost nothing that it had
recorded."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import define, field

from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.processes import Service, answers
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.crowd import Crowd, wait
from tests.faults.recorded import Row, Spans, rows, untrue, without
from tests.faults.stock import BODY, stock

SIZES = [
    MIB // 4,
    MIB // 2,
    MIB,
    MIB + 1,
    2 * MIB,
    3 * MIB - 1,
    4 * MIB,
    6 * MIB,
    8 * MIB,
    12 * MIB,
    16 * MIB,
]
WANTED = sum(SIZES)
#: A third of what the clients want, so that something is evicted all the time.
MAX_SIZE = WANTED // 3
#: Bytes a second from the origin, so that bodies are on their way when the node dies.
PACE = 24 * MIB
#: Nodes that are killed at the same time; most of a life is waiting. There is one more, with room for all.
LANES = 2
#: Files that belong to no image, and images whose file is gone, for a start with a stock to tidy up.
ORPHANS, GONE = 100, 5
#: What one image more takes of the disk: its body, and its row in the index and in the log of that.
IN_STOCK = BODY.size + 1024
#: What it writes when both its sites take connections.
LISTENS = "Listening on"
SPOTLESS = "nothing wrong, nothing left over"


@pytest.fixture(scope="module")
def images(cloud: Cloud) -> list[Image]:
    """Images that anybody may have, so that what is tried is this node and not Keystone."""
    return [cloud.open_images.create(Payload(size, seed=700 + n)) for n, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def slow_glance(cloud: Cloud) -> Iterator[Relay]:
    relay = Relay(cloud.open_images.url)
    relay.start()
    relay.pace(PACE)
    yield relay
    relay.close()


@define(eq=False)
class Lane:
    """One node, life after life.

    :param room: bytes on disk that the bodies of the images that clients want may come to.
    :param young: how likely each life is to be followed by one that ends while it starts.
    """

    proxy: Proxy
    images: Sequence[Image]
    seed: int
    room: int
    young: float
    rng: random.Random = field(init=False)
    crowd: Crowd = field(init=False)
    payloads: dict[str, Payload] = field(init=False)
    #: More images in the index, which nobody asks for.
    stock: frozenset[str] = frozenset()
    done: Counter[str] = field(factory=Counter)
    #: Seconds from when it had its directory until it listened, the last time.
    recovery: float = 0
    #: When it was killed there were recorded: bytes of the images that clients want, and other images. Of all
    #: these, so many bytes were not there afterwards.
    recorded: int = 0
    others: int = 0
    lost: int = 0

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.crowd = Crowd(self.proxy, self.images, self.seed)
        self.payloads = {image.id: image.payload for image in self.images}

    def live(self, times: int, *, stocked: int = 0) -> None:
        """Be killed so often; now and then be stopped in order, too.

        :param stocked: begin with all that clients want, and with so many more images.
        """
        if stocked:
            self.take_stock(stocked)
        for number in range(times):
            with self.crowd.at_work():
                wait(self.rng, 0.1, 5)
                self.kill()
            found = self.litter(self.look())
            if self.rng.random() < self.young:
                found = self.die_young(found)
            self.rise(found)
            if number % 4 == 3:
                self.be_stopped()
                self.start()
        # Not left running: the kernel tells a process when the thread that started it ends.
        self.be_stopped()

    def take_stock(self, count: int) -> None:
        for image in self.images:
            self.crowd.expect_whole(image)
        self.be_stopped()
        self.stock = frozenset(stock(self.proxy.cache_dir, self.proxy.origin, count))
        self.payloads |= dict.fromkeys(self.stock, BODY)
        self.start()

    def launch(self) -> Service:
        """Start; it has just taken its directory when this returns."""
        service = self.proxy.launch()
        service.until(lambda: self.proxy.has_directory, "its directory", look=0.002)
        return service

    def start(self) -> None:
        service = self.launch()
        begun = time.monotonic()
        service.until(lambda: LISTENS in service.logged(), "a port", look=0.005)
        self.recovery = time.monotonic() - begun
        service.until(lambda: answers(f"{self.proxy.manage_url}/cache"), "an answer")

    def kill(self) -> None:
        service = self.proxy.service
        self.proxy.kill()
        Proxy.check_log(service)
        self.done["killed"] += 1

    def die_young(self, before: Sequence[Row]) -> list[Row]:
        """Be killed while starting, most often before it listens, else while tidying up; returns what is
        recorded then."""
        service = self.launch()
        wait(self.rng, 0, self.recovery + self.rng.choice((0, 0, 1)))
        self.kill()
        self.done["killed young"] += 1
        self.done["before it listened"] += LISTENS not in service.logged()
        after = self.look()
        whole = {row.image_id for row in after if row.verified}
        self.compare(before, {row.image_id: row.extents for row in after}, whole)
        return after

    def look(self) -> list[Row]:
        """What has been recorded; all of it has to be so, and `--check` to find no damage."""
        found = rows(self.proxy.cache_dir)
        assert untrue(found, self.payloads) == []
        if self.rng.random() < 0.4:
            self.check()
        return [row for row in found if row.body.exists()]

    def check(self, flag: str = "--check") -> str:
        checked = self.proxy.check(flag)
        self.done["checked"] += 1
        self.done["damaged"] += checked.returncode != 0
        assert checked.returncode == 0, checked.stdout + checked.stderr
        return checked.stdout

    def litter(self, found: list[Row]) -> list[Row]:
        """Leave more to tidy up than a crash does, if there is a stock; returns the rows with a body."""
        if not self.stock:
            return found
        others = [row for row in found if row.image_id in self.stock]
        for number, row in enumerate(self.rng.sample(others, ORPHANS)):
            shutil.copy2(row.body, row.body.with_suffix(f".f{number:07x}"))
        for row in self.rng.sample(others, GONE):
            row.body.unlink()
        return [row for row in found if row.body.exists()]

    def rise(self, before: Sequence[Row]) -> None:
        """Start; what had been recorded has to be there, and nothing that belongs to no image to stay."""
        self.start()
        there = self.proxy.images()
        whole = {image_id for image_id, entry in there.items() if entry["complete"]}
        extents: dict[str, Spans] = {image_id: ((0, there[image_id]["size"]),) for image_id in whole}
        extents |= {
            image.id: self.proxy.entry(image)["extents"] for image in self.images if image.id in there
        }
        self.compare(before, extents, whole)
        assert eventually(lambda: not self.untidy()), self.untidy()
        assert self.proxy.disk_use() <= self.room + 2 * MIB + len(self.stock) * IN_STOCK
        self.crowd.sample(self.rng, 2)
        assert self.crowd.wrong == []

    def compare(self, before: Sequence[Row], extents: Mapping[str, Spans], whole: Collection[str]) -> None:
        """What had been recorded is there still."""
        for row in before:
            if row.image_id in self.stock:
                self.others += 1
            else:
                self.recorded += row.total
            self.lost += without(row.extents, extents.get(row.image_id, ()))
        assert self.lost == 0
        assert {row.image_id for row in before if row.verified} <= set(whole)

    def untidy(self) -> set[Path]:
        """Files without a row, and what rows without a file speak of."""
        files = set((self.proxy.cache_dir / "bodies").glob("*/*"))
        return files ^ {row.body for row in rows(self.proxy.cache_dir)}

    def be_stopped(self) -> None:
        """After an orderly end there is nothing left to tidy up."""
        self.proxy.stop()
        said = self.check("--check-digests")
        assert said.endswith(f"{SPOTLESS}\n"), said
        assert untrue(rows(self.proxy.cache_dir), self.payloads) == []
        self.done["stopped"] += 1


def record(campaign: Campaign, where: str, lanes: Sequence[Lane]) -> None:
    """The row of these lanes."""
    done = sum((lane.done for lane in lanes), Counter[str]())
    lost = sum(lane.lost for lane in lanes)
    recorded = sum(lane.recorded for lane in lanes)
    others = sum(lane.others for lane in lanes)
    each = f"{recorded / MIB / done['killed']:.1f} MiB"
    if others:
        each += f" and {others // done['killed']:,} other images"
    campaign.record(
        "Crash",
        f"SIGKILL under load, {where}; {done['killed young']} times of it once a start had the directory, "
        f"{done['before it listened']} of these before it listened",
        times=done["killed"],
        clients=sum((lane.crowd.seen for lane in lanes), Counter[str]()),
        lost=f"{lost} bytes of {recorded // MIB:,} MiB recorded ({each} each time); "
        f"{done['damaged']} of {done['checked']} runs of --check found damage",
    )


def test_killed_under_load(
    campaign: Campaign, images: list[Image], slow_glance: Relay, start_proxy: ProxyFactory
) -> None:
    """SIGKILL at random instants, of starts too, while images come, are read, are purged and are evicted; and
    where there is room for all of them, and many more to take up at a start."""
    common = {"min_free": 0, "authorization_ttl": 0, "shutdown_grace": 1}
    crowded = [
        Lane(start_proxy(slow_glance.url, max_size=MAX_SIZE, **common), images, 1000 * number, MAX_SIZE, 0.4)
        for number in range(LANES)
    ]
    roomy = Lane(start_proxy(slow_glance.url, max_size=2 * WANTED, **common), images, 9000, WANTED, 1)
    times, stocked = campaign.scale(2, 60), campaign.scale(2_000, 5_000)
    with ThreadPoolExecutor(LANES + 1) as pool:
        lives = [pool.submit(lane.live, times) for lane in crowded]
        lives.append(pool.submit(roomy.live, times * 3 // 4, stocked=stocked))
        for life in lives:
            life.result()
    assert [wrong for lane in [*crowded, roomy] for wrong in lane.crowd.wrong] == []
    # Two to three seconds pass until a byte is recorded, and few are left there that long without the room.
    assert sum(lane.recorded for lane in crowded) >= campaign.scale(0, 50 * MIB)
    assert roomy.recorded >= roomy.done["killed"] * WANTED // 3
    assert roomy.done["before it listened"] >= roomy.done["killed young"] // 4
    record(campaign, "room for a third of what is wanted", crowded)
    record(campaign, "room for everything", [roomy])
