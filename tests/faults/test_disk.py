"""The disk fails in every way that can be had here, and somebody else has his hands in the cache directory.

No download breaks, no client gets a wrong body, and what is asked for afterwards is cached again."""

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, field

from tests.cloud.client import call, download
from tests.cloud.cloud import Cloud
from tests.cloud.glance import FILE_STORE, SWIFT_STORE
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.processes import Processes
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.device import Device, device
from tests.faults.recorded import Spans, live_rows, without
from tests.faults.volume import SIZE, Volume, volume

_T = TypeVar("_T")
AREA = "Disk"
BODY = Payload(24 * MIB, seed=60)
#: What is asked for beside the whole: it begins before the place where the fault strikes and ends behind it.
PART = (2 * MIB + 5, 23 * MIB - 7)
#: How fast the origin sends during a fill, and a client reads during a hit, in bytes a second.
PACE = 24 * MIB
STRIKE_AT = 6 * MIB
#: Which of a body cannot be read any more.
WORN_OUT = (16 * MIB, 16 * MIB + 65_536)
MADE_ANEW = "Made the cache directory"
LABEL = "user.txglancecache"
RECORDED_WITHIN = 3.0  # seconds after which the index knows of a body
#: Glance trips over its own feet now and then when two clients at once ask for parts of what its store cannot
#: send parts of. Who has no node before it gets that too.
STUMBLED = "refused by Glance itself with 500"


@define(eq=False)
class Node:
    """A node whose cache is on a file system of its own."""

    disk: Volume
    proxy: Proxy
    relay: Relay
    images: dict[str, Image]
    token: str
    sound: bool = True
    _ballast: list[Path] = field(factory=list)

    @property
    def cache_dir(self) -> Path:
        return self.proxy.cache_dir

    def reset(self) -> None:
        self.relay.calm()
        self.proxy.purge()

    def body_files(self) -> dict[Path, str]:
        """The bodies on the disk, with the ids of their images as the files themselves tell them."""
        found = {}
        for path in (self.cache_dir / "bodies").glob("*/*"):
            with suppress(OSError):  # it is on its way out, or not one of the node's own
                found[path] = str(json.loads(os.getxattr(path, LABEL))["image_id"])
        return found

    def body_file(self, image: Image) -> Path:
        """The file that has the image."""
        (found,) = [path for path, image_id in self.body_files().items() if image_id == image.id]
        return found

    def held(self) -> dict[str, Spans]:
        """What the node has, by the names of its files: another file has been filled anew."""
        entries = {image.id: self.proxy.entry(image) for image in self.images.values()}
        return {
            path.name: tuple((start, stop) for start, stop in entries[image_id]["extents"])
            for path, image_id in self.body_files().items()
            if entries.get(image_id)
        }

    def known(self) -> tuple[Any, Any]:
        """What a node knows that none of its body files tells: what is there of which image, pins, jobs."""
        facts = ("id", "created", "pinned", "complete", "extents")
        entries = [self.proxy.entry(image) or {} for image in self.images.values()]
        jobs = call("GET", f"{self.proxy.manage_url}/cache/jobs").json()["jobs"]
        return (
            [{fact: entry.get(fact) for fact in facts} for entry in entries],
            [{fact: job[fact] for fact in ("id", "kind", "image_id", "state", "created")} for job in jobs],
        )

    def other(self, image: Image) -> Image:
        """Another image."""
        return next(each for each in self.images.values() if each is not image)

    def stumbles(self, image: Image) -> int:
        """How often Glance has answered somebody who asked for a part with an error of its own."""
        return sum(exchange.status == 500 and bool(exchange.range) for exchange in self.relay.of(image.path))

    def change(self, how: Callable[[Path], None], image: Image) -> None:
        how(self.body_file(image))

    # what may happen to the disk

    def fill_up(self) -> None:
        """Leave no byte on it, not even root's."""
        path = self.disk.path / "ballast"
        self._ballast.append(path)
        step = 64 * MIB
        with path.open("ab") as file:
            while step >= 512:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), step)
                    file.seek(0, os.SEEK_END)
                except OSError:
                    step //= 2

    def free_up(self) -> None:
        while self._ballast:
            self._ballast.pop().unlink(missing_ok=True)

    def fail(self) -> None:
        """Everything fails from now on, reading and writing, with EIO."""
        self.disk.cut_power()

    def turn_read_only(self) -> None:
        """As the kernel does when it finds something wrong in an ext4."""
        self.disk.break_something()
        with pytest.raises(OSError, match="Read-only"):
            (self.disk.path / "probe").touch()

    def repair(self) -> None:
        """As an operator does: the node is stopped, the file system checked and mounted again."""
        if self.proxy.is_running:
            self.proxy.stop()
        self.proxy.close()
        self.disk.unmount()
        self.disk.check()
        self.disk.mount("errors=remount-ro")
        self.proxy.start()


@pytest.fixture(scope="module")
def images(cloud: Cloud) -> dict[str, Image]:
    return {store: cloud.images.create(BODY, store=store) for store in (FILE_STORE, SWIFT_STORE)}


@contextmanager
def _node_on(disk: Volume, cloud: Cloud, processes: Processes, images: dict[str, Image]) -> Iterator[Node]:
    relay = Relay(cloud.glance.url)
    relay.start()
    try:
        disk.unmount()
        disk.mount("errors=remount-ro")
        proxy = Proxy(relay.url, disk.path, processes.logs, {"min_free": 0, "authorization_ttl": 0})
        proxy.start()
        try:
            yield Node(disk, proxy, relay, images, cloud.token("alice"))
            proxy.stop()
        finally:
            proxy.close()
    finally:
        relay.close()


@pytest.fixture(scope="module")
def node(cloud: Cloud, processes: Processes, images: dict[str, Image]) -> Iterator[Node]:
    home = processes.directory / "disk"
    try:
        with volume(home) as disk, _node_on(disk, cloud, processes, images) as made:
            yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def frail_disk(processes: Processes) -> Iterator[Device]:
    """A disk that may get bad sectors."""
    home = processes.directory / "frail-disk"
    try:
        with device(home, SIZE) as made:
            yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def frail_node(
    frail_disk: Device, cloud: Cloud, processes: Processes, images: dict[str, Image]
) -> Iterator[Node]:
    """The node on that disk."""
    home = processes.directory / "frail"
    try:
        with volume(home, frail_disk.path) as disk, _node_on(disk, cloud, processes, images) as made:
            yield made
            frail_disk.mend()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@define(eq=False)
class Clients:
    """Those who download one image, wholly or in part, and what became of it."""

    node: Node
    image: Image
    rate: float | None = None
    seen: Counter[str] = field(factory=Counter)
    _farthest: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def get(self, part: tuple[int, int] | None = None) -> str:
        """Download, and say how it ended."""
        headers = {"Range": f"bytes={part[0]}-{part[1] - 1}"} if part else {}
        start, stop = part or (0, self.image.size)

        def note(size: int) -> bool:
            with self._lock:
                self._farthest = max(self._farthest, size)
            return False

        try:
            got = download(
                self.node.proxy.url + self.image.path,
                token=self.node.token,
                headers=headers,
                rate=self.rate,
                leave=note,
            )
        except OSError as error:
            return f"no answer ({type(error).__name__})"
        if got.status == 200:  # what is passed through from a store without ranges
            start, stop = 0, self.image.size
        elif got.status == 500 and self.node.stumbles(self.image):
            return STUMBLED
        elif got.status != 206:
            return f"status {got.status}"
        if not got.whole:
            return "cut short"
        right = hashlib.sha512(self.image.payload.part(start, stop)).hexdigest()
        return "right" if got.sha512 == right else "WRONG"

    def all_at_once(self, strike: Callable[[], None] | None = None) -> None:
        """Two whole downloads and two of a part; ``strike`` when one of them has got so far."""
        with ThreadPoolExecutor(4) as pool:
            running: list[Future[str]] = [pool.submit(self.get, part) for part in (None, PART, None, PART)]
            if strike is not None:
                assert eventually(lambda: self._farthest >= STRIKE_AT, 20), "the downloads never got so far"
                assert not any(future.done() for future in running), "too late to strike"
                strike()
                self.node.relay.pace(None)
            self.seen.update(future.result() for future in running)


@define(eq=False)
class Trial:
    """One kind of trouble, again and again, with images of every store."""

    node: Node
    campaign: Campaign
    seen: Counter[str] = field(factory=Counter)
    times: int = 0
    #: How much was on the disk when it was struck, and how much of it is not there any more, in bytes.
    had: int = 0
    lost: int = 0
    _held: Mapping[str, Spans] = field(factory=dict)

    def rounds(self, whole: int = 2) -> Iterator[Image]:
        """The images to try; each time the node has nothing, and afterwards it has to live and to cache."""
        stores = [FILE_STORE, SWIFT_STORE]
        for number in range(self.campaign.scale(1, whole * 2)):
            # In short each kind of trouble meets one store, the next kind the other.
            image = self.node.images[stores[(number + _turns()) % 2]]
            self.node.reset()
            stumbled = self.seen[STUMBLED]
            yield image
            self.times += 1
            assert self.node.proxy.is_running
            assert self.seen[STUMBLED] - stumbled <= self.node.stumbles(image)
            assert set(self.seen) - {STUMBLED} == {"right"}, self.seen
            self.count_losses()
            self.is_cached_again(image)

    def about_to_strike(self) -> None:
        """What is on the disk now may be lost."""
        self._held = self.node.held()

    def count_losses(self) -> None:
        held, self._held = self._held, {}
        there = self.node.held() if held else {}
        for name, spans in held.items():
            self.had += without(spans, ())
            self.lost += without(spans, there.get(name, ()))

    def some_of(self, kinds: Sequence[_T]) -> Sequence[_T]:
        """All of them, or in short two at most, another time others."""
        first = _turns() * 2 % len(kinds)
        return kinds if self.campaign.whole else kinds[first : first + max(1, len(kinds) // 3)]

    def cache(self, *images: Image) -> None:
        """Have the whole of them on the disk, known to be right, and recorded."""
        for image in images:
            assert Clients(self.node, image).get() == "right"
        wanted = {image.id for image in images}

        def recorded() -> bool:
            return wanted <= {row.image_id for row in live_rows(self.node.cache_dir) if row.verified}

        assert eventually(recorded, 30), "it is not recorded"

    def mid_fill(self, image: Image, strike: Callable[[], None]) -> None:
        """Strike while the image is being filled, and ask again while the trouble lasts."""
        self.node.relay.pace(PACE)
        self._with_clients(Clients(self.node, image), strike)

    def mid_hit(self, image: Image, strike: Callable[[], None]) -> None:
        """Strike while clients read what is on the disk, and ask again while the trouble lasts."""
        self.cache(image)
        self._with_clients(Clients(self.node, image, rate=PACE), strike)

    def idle(self, image: Image, strike: Callable[[], None]) -> None:
        """Strike while nobody reads, and ask then."""
        self.cache(image)
        self.about_to_strike()
        strike()
        self._with_clients(Clients(self.node, image), None)

    def ask(self, image: Image) -> None:
        self._with_clients(Clients(self.node, image), None)

    def _with_clients(self, clients: Clients, strike: Callable[[], None] | None) -> None:
        def struck() -> None:
            assert strike is not None
            self.about_to_strike()
            strike()

        clients.all_at_once(strike and struck)
        if strike is not None:
            clients.rate = None
            clients.seen[clients.get()] += 1
        self.seen.update(clients.seen)

    def is_cached_again(self, image: Image) -> None:
        """Whatever happened is over: the image comes onto the disk, and from there."""
        self.node.relay.calm()

        def hit() -> bool:
            got = self.node.proxy.download(image, self.node.token)
            assert (got.whole, got.sha512) == (True, BODY.sha512)
            return "hit" in got.cache_status and not self.node.relay.moved(image.path) % image.size

        assert eventually(hit, 30), "it is not cached"

    def record(self, what: str) -> None:
        self.node.sound = True
        lost = f"{_mib(self.lost)} of {_mib(self.had)} MiB on the disk"
        self.campaign.record(AREA, what, times=self.times, clients=self.seen, lost=lost)


def _mib(count: int) -> str:
    return f"{count / MIB:.3g}"


def _turns(counted: list[int] = []) -> int:  # noqa: B006
    """Grows by one with each call."""
    counted.append(0)
    return len(counted)


@pytest.fixture
def trial(node: Node, campaign: Campaign) -> Trial:
    return _begin(node, campaign)


@pytest.fixture
def frail(frail_node: Node, frail_disk: Device, campaign: Campaign) -> Trial:
    """A trial on the disk that may get bad sectors."""
    frail_disk.mend()
    frail_disk.failed_reads = frail_disk.failed_writes = 0
    return _begin(frail_node, campaign)


def _begin(node: Node, campaign: Campaign) -> Trial:
    if not node.sound:  # the trial before this one failed
        node.free_up()
        node.proxy.close()
        node.repair()
    node.sound = False
    return Trial(node, campaign)


# -- the file system ---------------------------------------------------------------------------------


def test_full_at_the_start(node: Node, trial: Trial) -> None:
    """Everything is passed through; when there is room again, it is cached."""
    for image in trial.rounds():
        node.fill_up()
        trial.ask(image)
        assert node.proxy.entry(image) is None
        node.free_up()
    trial.record("A full disk, then room again")


def test_full_in_the_middle(node: Node, trial: Trial) -> None:
    """Somebody else takes the room that a fill was counting on."""
    for image in trial.rounds(3):
        trial.mid_fill(image, node.fill_up)
        node.free_up()
    trial.record("The disk runs full in the middle of a fill")


def test_an_image_that_is_too_large(
    node: Node, trial: Trial, cloud: Cloud, processes: Processes, campaign: Campaign
) -> None:
    """There is room on the disk, and not in the cache."""
    home = processes.directory / "disk-small"
    home.mkdir()
    small = Proxy(node.relay.url, home, processes.logs, {"min_free": 0, "max_size": 16 * MIB})
    small.start()
    try:
        seen: Counter[str] = Counter()
        for image in node.images.values():
            clients = Clients(Node(node.disk, small, node.relay, node.images, node.token), image)
            clients.all_at_once()
            seen.update(clients.seen)
            assert small.status()["sizes"]["bytes_on_disk"] <= 16 * MIB
        assert set(seen) - {STUMBLED} == {"right"}, seen
        small.stop()
    finally:
        small.close()
        shutil.rmtree(home)
    campaign.record(AREA, "An image larger than the cache", times=2, clients=seen)


@pytest.mark.parametrize("moment", ["mid_fill", "mid_hit", "idle"])
def test_an_error_in_everything(node: Node, trial: Trial, moment: str) -> None:
    """Reading, writing and syncing fail, the index included."""
    for image in trial.rounds():
        getattr(trial, moment)(image, node.fail)
        trial.ask(image)
        node.repair()
    assert moment == "mid_fill" or not trial.lost
    trial.record(f"Every read and write of the disk fails, {_words(moment)}")


@pytest.mark.parametrize("moment", ["mid_fill", "mid_hit", "idle"])
def test_a_disk_that_turns_read_only(node: Node, trial: Trial, moment: str) -> None:
    """What is on it, and recorded, is still served from it."""
    for image in trial.rounds():
        getattr(trial, moment)(image, node.turn_read_only)
        if moment != "mid_fill":
            assert node.relay.moved(image.path) == image.size
        node.repair()
    assert moment == "mid_fill" or not trial.lost
    trial.record(f"The kernel turns the file system read-only, {_words(moment)}")


def test_a_start_on_a_full_disk(node: Node, trial: Trial) -> None:
    """A node that finds no room serves what it has, and knows all that it knew, then and when there is room:
    what is there of which image, what is pinned, and its jobs."""
    whole, part = node.images[SWIFT_STORE], node.images[FILE_STORE]
    for end in trial.some_of([node.proxy.stop, node.proxy.kill]):
        node.reset()
        trial.seen.update([Clients(node, whole).get(), Clients(node, part).get(PART)])
        node.proxy.until_complete(whole)
        for image in (whole, part):  # or one of them goes for the other's sake
            call("PUT", f"{node.proxy.manage_url}/cache/images/{image.id}/pin")
        call("POST", f"{node.proxy.manage_url}/cache/images/{whole.id}/verify")
        node.proxy.until(lambda: {job["state"] for job in node.known()[1]} == {"done"}, "the job's end")
        if end == node.proxy.kill:
            time.sleep(RECORDED_WITHIN)
        known = node.known()
        assert [(entry["pinned"], entry["complete"]) for entry in known[0]] == [(True, False), (True, True)]
        trial.about_to_strike()
        end()
        node.fill_up()

        node.proxy.start()
        assert node.known() == known
        node.relay.calm()
        trial.ask(whole)
        trial.seen[Clients(node, part).get(PART)] += 1
        assert node.relay.moved(whole.path) == node.relay.moved(part.path) == 0
        trial.ask(part)
        assert node.known() == known

        node.proxy.stop()
        node.free_up()
        node.proxy.start()
        assert node.known() == known
        trial.count_losses()
        trial.times += 1
        trial.ask(part)
        node.proxy.until_complete(part)
        assert set(trial.seen) - {STUMBLED} == {"right"}, trial.seen
        trial.is_cached_again(part)
    assert not trial.lost
    trial.record("A start on a full disk, with images that are there wholly and in part")


# -- the drive ---------------------------------------------------------------------------------------


def test_bad_sectors_under_a_body(frail: Trial, frail_disk: Device) -> None:
    """Who reads there gets the rest from the origin; that body is fetched anew, and nothing else is lost."""
    node = frail.node

    def wear_out(image: Image) -> None:
        frail_disk.spoil(node.body_file(image), *WORN_OUT)

    for moment in frail.some_of(["mid_hit", "idle"]):
        for image in frail.rounds():
            other = node.other(image)
            frail.cache(image, other)
            failed = frail_disk.failed_reads
            getattr(frail, moment)(image, partial(wear_out, image))
            assert frail_disk.failed_reads > failed
            said = (
                rf"Image {image.id} goes on from the origin at byte \d+: cannot read a body: .*Input/output"
            )
            assert re.search(said, node.proxy.service.logged())
            frail.ask(other)
            assert node.relay.moved(other.path) == other.size
    assert frail.lost == frail.times * BODY.size
    assert not list(node.cache_dir.glob("*.damaged"))
    frail.record("Sectors under one of two bodies cannot be read, during a hit or while nobody reads")


def test_a_disk_that_takes_nothing(frail: Trial, frail_disk: Device) -> None:
    """While every write fails, and nothing can be synced, what is on it is still served from it."""
    node = frail.node

    def wear_out() -> None:
        frail_disk.takes_nothing = True

    for moment in frail.some_of(["mid_fill", "idle"]):
        lost = frail.lost
        for image in frail.rounds():
            other = node.other(image)
            frail.cache(other)
            failed = frail_disk.failed_writes
            getattr(frail, moment)(image, wear_out)
            if moment == "mid_fill":
                assert eventually(lambda: node.proxy.entry(image) is None, 20), "it is believed to be there"  # noqa: B023
            else:
                assert node.relay.moved(image.path) == image.size
            frail.ask(image)
            frail.ask(other)
            assert node.relay.moved(other.path) == other.size
            assert frail_disk.failed_writes > failed
            frail_disk.mend()
            node.repair()
            frail.ask(other)
            assert node.relay.moved(other.path) == other.size
        assert moment == "mid_fill" or frail.lost == lost
    frail.record("Every write to the disk fails, and reading does not, during a fill or while nobody reads")


def test_a_start_with_an_index_that_cannot_be_read(frail: Trial, frail_disk: Device) -> None:
    """The node says so in a line, touches nothing, and does not start: nobody knows that it is damaged."""
    node = frail.node
    for image in frail.rounds():
        frail.cache(image)
        call("PUT", f"{node.proxy.manage_url}/cache/images/{image.id}/pin")
        known = node.known()
        frail.about_to_strike()
        node.proxy.stop()
        index = node.cache_dir / "index.sqlite"
        before = sorted(node.cache_dir.glob("index*"))
        frail_disk.spoil(index, 0, index.stat().st_size)
        service = node.proxy.launch()
        assert service.popen.wait(30) == 1
        said = rf"^twistd glancecache: cannot use the index {index}: disk I/O error .*, or delete it .*$"
        assert len(re.findall(said, service.logged(), re.MULTILINE)) == 1
        assert sorted(node.cache_dir.glob("index*")) == before
        assert Clients(node, image).get() == "no answer (ConnectionRefusedError)"
        node.proxy.close()
        frail_disk.mend()
        node.proxy.start()
        assert node.known() == known
        frail.ask(image)
        assert node.relay.moved(image.path) == image.size
        call("DELETE", f"{node.proxy.manage_url}/cache/images/{image.id}/pin")
    assert not frail.lost
    frail.record("A start with an index that cannot be read; it is refused until the disk is mended")


# -- somebody's hands in the directory ---------------------------------------------------------------


def cut_short(path: Path) -> None:
    os.truncate(path, 16 * MIB)


def alter(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(22 * MIB)
        file.write(b"altered")


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"x" * BODY.size)
    other.replace(path)


def replace_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def take_rights_away(path: Path) -> None:
    path.chmod(0)


CHANGES = [cut_short, alter, delete, replace, replace_by_a_pipe, take_rights_away]


@pytest.mark.parametrize("moment", ["mid_hit", "idle"])
def test_a_body_file_is_changed(node: Node, trial: Trial, moment: str) -> None:
    """No byte of it is served from then on."""
    for change in trial.some_of(CHANGES):
        for image in trial.rounds():
            getattr(trial, moment)(image, partial(node.change, change, image))
    trial.record(f"A body file is cut short, altered, deleted, replaced, made unreadable, {_words(moment)}")


def test_a_body_file_is_changed_while_it_is_filled(node: Node, trial: Trial) -> None:
    """A file that has lost its name is filled to the end; the next client begins anew."""
    for change in trial.some_of([delete, replace]):
        for image in trial.rounds():
            trial.mid_fill(image, partial(node.change, change, image))
    trial.record("A body file is deleted or replaced while it is being filled")


@pytest.mark.parametrize("moment", ["mid_fill", "mid_hit", "idle"])
def test_the_directory_is_removed(node: Node, trial: Trial, moment: str) -> None:
    """It is made anew, with the next body, and that is said once."""
    before = node.proxy.service.logged().count(MADE_ANEW)
    for image in trial.rounds():
        getattr(trial, moment)(image, lambda: shutil.rmtree(node.cache_dir))
        assert (node.cache_dir / "bodies").is_dir()
    assert node.proxy.service.logged().count(MADE_ANEW) - before == trial.times
    node.proxy.restart()
    trial.record(f"The whole cache directory is removed, {_words(moment)}")


def remove_index(node: Node) -> None:
    for path in node.cache_dir.glob("index.sqlite*"):
        path.unlink()


def damage_index(node: Node) -> None:
    for path in node.cache_dir.glob("index.sqlite*"):
        path.write_bytes(b"this is no database" * 1000)


def test_the_index_is_lost_while_the_node_is_stopped(node: Node, trial: Trial) -> None:
    """Whole bodies are found again by what is written on them."""
    for spoil in trial.some_of([remove_index, damage_index]):
        for image in trial.rounds():
            trial.cache(image)
            moved = node.relay.moved(image.path)
            trial.about_to_strike()
            node.proxy.stop()
            spoil(node)
            node.proxy.start()
            node.proxy.until_complete(image)
            trial.ask(image)
            assert node.relay.moved(image.path) == moved
    assert not trial.lost
    trial.record("The index is removed or damaged while the node is stopped")


def test_the_index_is_lost_while_the_node_runs(node: Node, trial: Trial) -> None:
    """Nobody notices; the next start rebuilds it."""
    for spoil in trial.some_of([remove_index, damage_index]):
        for image in trial.rounds():
            trial.mid_fill(image, partial(spoil, node))
            trial.is_cached_again(image)
            node.proxy.restart()
            node.proxy.until_complete(image)
    trial.record("The index is removed or damaged while the node runs")


def _words(moment: str) -> str:
    return {"mid_fill": "during a fill", "mid_hit": "during a hit", "idle": "while nobody reads"}[moment]
