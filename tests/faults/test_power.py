"""The power goes at any instant: what was not synced is gone. Nothing that is left is wrong, and nothing that
had been recorded or confirmed is undone."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from attrs import define, field

from tests.cloud.cloud import Cloud
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.processes import Processes
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.crowd import Crowd, wait
from tests.faults.recorded import Row, live_rows, rows, untrue, without
from tests.faults.volume import Volume, volume

SIZES = [int(MIB * size) for size in (0.25, 1, 1.7, 3, 5, 8, 12, 16)]
#: Bytes a second from the origin, so that bodies are on their way when the power goes.
PACE = 12 * MIB
#: How the file system is told to order things, and how soon to commit; any of these may be an operator's.
MOUNTS = ("data=ordered", "data=writeback", "data=writeback,commit=1", "data=ordered,commit=1")


@pytest.fixture
def images(cloud: Cloud) -> list[Image]:
    """Images that anybody may have."""
    return [cloud.open_images.create(Payload(size, seed=800 + n)) for n, size in enumerate(SIZES)]


@pytest.fixture
def disk(processes: Processes) -> Iterator[Volume]:
    home = processes.directory / "power"
    with volume(home) as made:
        yield made
    shutil.rmtree(home)


@pytest.fixture
def proxy(disk: Volume, cloud: Cloud, processes: Processes) -> Iterator[Proxy]:
    """A node whose cache is on the volume."""
    relay = Relay(cloud.open_images.url)
    relay.start()
    relay.pace(PACE)
    proxy = Proxy(relay.url, disk.path, processes.logs, {"min_free": 0, "authorization_ttl": 0})
    proxy.start()
    yield proxy
    proxy.close()
    relay.close()


@define(eq=False)
class Trial:
    """One node and one disk, cut after cut. The last image is the operator's, who purges it; the others are
    wanted by clients."""

    proxy: Proxy
    disk: Volume
    images: Sequence[Image]
    rng: random.Random
    crowd: Crowd = field(init=False)
    cuts: int = 0
    recorded: int = 0
    lost: int = 0
    purged: int = 0

    def __attrs_post_init__(self) -> None:
        self.crowd = Crowd(self.proxy, self.images[:-1], 9, purges=False)

    @property
    def payloads(self) -> dict[str, Payload]:
        return {image.id: image.payload for image in self.images}

    def live(self) -> None:
        doomed = self.images[-1]
        self.crowd.expect_whole(doomed)
        with self.crowd.at_work():
            # Recording follows a byte by two to three seconds.
            wait(self.rng, *((3, 5.5) if self.cuts % 2 == 0 else (0.2, 3)))
            purge = any(row.image_id == doomed.id for row in self.live_rows())
            if purge:
                self.proxy.purge(doomed)
                self.purged += 1
            before = self.live_rows()
            self.disk.cut_power()
            if self.rng.random() < 0.5:
                wait(self.rng, 0, 0.5)
            self.proxy.kill()
        self.cuts += 1
        self.disk.unmount()
        self.disk.mount(self.rng.choice(MOUNTS))
        found = self.look()
        self.compare(before, {row.image_id: row.extents for row in found})
        if purge:
            assert doomed.id not in {row.image_id for row in found}

        self.proxy.start()
        entries = {image.id: self.proxy.entry(image) for image in self.images}
        self.compare(found, {image_id: entry["extents"] for image_id, entry in entries.items() if entry})
        self.crowd.sample(self.rng, 2)
        assert self.crowd.wrong == []
        if self.rng.random() < 0.5:
            self.proxy.purge()

    def live_rows(self) -> list[Row]:
        return live_rows(self.proxy.cache_dir)

    def look(self) -> list[Row]:
        """What the disk has kept of the index; all of it has to be so, and `--check` to find no damage."""
        found = rows(self.proxy.cache_dir)
        assert [row for row in found if not row.body.exists()] == []
        assert untrue(found, self.payloads) == []
        checked = self.proxy.check("--check-digests")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        return found

    def compare(self, before: Sequence[Row], after: dict[str, Sequence[Sequence[int]]]) -> None:
        """What had been committed is there still."""
        for row in before:
            self.recorded += row.total
            self.lost += without(row.extents, after.get(row.image_id, ()))
        assert self.lost == 0


def test_power_is_cut(campaign: Campaign, images: list[Image], proxy: Proxy, disk: Volume) -> None:
    """On a real ext4, of which all that was not synced is dropped at random instants of a node under load."""
    trial = Trial(proxy, disk, images, random.Random(4))
    for _ in range(campaign.scale(2, 30)):
        trial.live()
    proxy.stop()
    checked = proxy.check()
    assert checked.stdout.endswith("nothing wrong, nothing left over\n"), checked.stdout
    seen: Counter[str] = trial.crowd.seen
    campaign.record(
        "Crash",
        f"Power cut under load (ext4), {trial.purged} times of it just after a purge",
        times=trial.cuts,
        clients=seen,
        lost=f"{trial.lost} of {trial.recorded // MIB} MiB recorded",
    )
