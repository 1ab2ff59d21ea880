"""A node that is killed at any instant serves nothing wrong afterwards, and has lost nothing that it had
recorded."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import define, field

from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.crowd import Crowd, wait
from tests.faults.recorded import Row, rows, untrue, without

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
#: A third of what the clients want, so that something is evicted all the time.
MAX_SIZE = sum(SIZES) // 3
#: Bytes a second from the origin, so that bodies are on their way when the node dies.
PACE = 24 * MIB
#: Nodes that are killed at the same time; most of a life is waiting.
LANES = 3
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
    """One node, life after life."""

    proxy: Proxy
    images: Sequence[Image]
    seed: int
    rng: random.Random = field(init=False)
    crowd: Crowd = field(init=False)
    done: Counter[str] = field(factory=Counter)
    recorded: int = 0
    lost: int = 0

    def __attrs_post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.crowd = Crowd(self.proxy, self.images, self.seed)

    def live(self, times: int) -> None:
        """Be killed so often; now and then be stopped in order, too."""
        for number in range(times):
            with self.crowd.at_work():
                wait(self.rng, 0.1, 5)
                self.kill()
            if self.rng.random() < 0.4:
                self.die_young()
            found = self.look()
            self.rise(found)
            if number % 4 == 3:
                self.be_stopped()
                self.proxy.start()
        # Not left running: the kernel tells a process when the thread that started it ends.
        self.be_stopped()

    def kill(self) -> None:
        service = self.proxy.service
        self.proxy.kill()
        Proxy.check_log(service)
        self.done["killed"] += 1

    def die_young(self) -> None:
        """Be killed while starting, most of which is the loading of modules."""
        self.proxy.launch()
        wait(self.rng, 0, 1.5)
        self.kill()
        self.done["of it while starting"] += 1

    def look(self) -> list[Row]:
        """What has been recorded; all of it has to be so, and `--check` to find no damage."""
        found = rows(self.proxy.cache_dir)
        assert untrue(found, self.payloads) == []
        if self.rng.random() < 0.4:
            checked = self.proxy.check()
            assert checked.returncode == 0, checked.stdout + checked.stderr
            self.done["checked"] += 1
        return [row for row in found if row.body.exists()]

    @property
    def payloads(self) -> dict[str, Payload]:
        return {image.id: image.payload for image in self.images}

    def rise(self, before: Sequence[Row]) -> None:
        """Start; what had been recorded has to be there, and nothing that belongs to no image to stay."""
        self.proxy.start()
        there = {image.id: self.proxy.entry(image) for image in self.images}
        for row in before:
            entry = there[row.image_id] or {"extents": [], "complete": False}
            self.recorded += row.total
            self.lost += without(row.extents, entry["extents"])
            assert entry["complete"] >= row.verified
        assert self.lost == 0
        assert eventually(self.is_tidy), (self.files(), rows(self.proxy.cache_dir))
        assert self.proxy.disk_use() <= MAX_SIZE + 2 * MIB
        self.crowd.sample(self.rng, 2)
        assert self.crowd.wrong == []

    def files(self) -> set[Path]:
        return set((self.proxy.cache_dir / "bodies").glob("*/*"))

    def is_tidy(self) -> bool:
        return self.files() == {row.body for row in rows(self.proxy.cache_dir)}

    def be_stopped(self) -> None:
        """After an orderly end there is nothing left to tidy up."""
        self.proxy.stop()
        checked = self.proxy.check("--check-digests")
        assert checked.stdout.endswith(f"{SPOTLESS}\n"), checked.stdout + checked.stderr
        assert untrue(rows(self.proxy.cache_dir), self.payloads) == []
        self.done["stopped"] += 1


def test_killed_under_load(
    campaign: Campaign, images: list[Image], slow_glance: Relay, start_proxy: ProxyFactory
) -> None:
    """SIGKILL at random instants, of starts too, while images come, are read, are purged and are evicted."""
    each = campaign.scale(2, 60)
    lanes = [
        Lane(
            start_proxy(
                slow_glance.url, max_size=MAX_SIZE, min_free=0, authorization_ttl=0, shutdown_grace=1
            ),
            images,
            seed=1000 * number,
        )
        for number in range(LANES)
    ]
    with ThreadPoolExecutor(LANES) as pool:
        for life in [pool.submit(lane.live, each) for lane in lanes]:
            life.result()
    done = sum((lane.done for lane in lanes), Counter[str]())
    seen = sum((lane.crowd.seen for lane in lanes), Counter[str]())
    recorded = sum(lane.recorded for lane in lanes)
    assert [wrong for lane in lanes for wrong in lane.crowd.wrong] == []
    assert recorded > 0
    campaign.record(
        "Crash",
        f"SIGKILL under load, {done['of it while starting']} times of it while starting",
        times=done["killed"],
        clients=seen,
        lost=f"{sum(lane.lost for lane in lanes)} of {recorded // MIB} MiB recorded",
    )
