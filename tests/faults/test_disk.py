"""The disk fails in every way that can be had here, and somebody else has his hands in the cache directory.

No download breaks, no client gets a wrong body, and what is asked for afterwards is cached again."""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from attrs import define, field

from tests.cloud.client import download
from tests.cloud.cloud import Cloud
from tests.cloud.glance import FILE_STORE, SWIFT_STORE
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.processes import Processes
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.volume import Volume, volume

_T = TypeVar("_T")
AREA = "Disk"
BODY = Payload(24 * MIB, seed=60)
#: What is asked for beside the whole: it begins before the place where the fault strikes and ends behind it.
PART = (2 * MIB + 5, 23 * MIB - 7)
#: How fast the origin sends during a fill, and a client reads during a hit, in bytes a second.
PACE = 24 * MIB
STRIKE_AT = 6 * MIB
MADE_ANEW = "Made the cache directory"
RECORDED_WITHIN = 3.0  # seconds after which the index knows of a body


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

    def body_file(self, image: Image) -> Path:
        """The file that has the image."""
        (found,) = [
            path for path in (self.cache_dir / "bodies").glob("*/*") if path.stat().st_size == image.size
        ]
        return found

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
        device = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", self.disk.path], check=True, capture_output=True, text=True
        ).stdout.strip()
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("broken by a test")
        with pytest.raises(OSError, match="Read-only"):
            (self.disk.path / "probe").touch()

    def repair(self) -> None:
        """As an operator does: the node is stopped, the file system checked and mounted again."""
        if self.proxy.is_running:
            self.proxy.stop()
        self.proxy.close()
        self.disk.unmount()
        subprocess.run(["e2fsck", "-p", "-f", self.disk.image], capture_output=True, timeout=60)
        self.disk.mount("errors=remount-ro")
        self.proxy.start()


@pytest.fixture(scope="module")
def node(cloud: Cloud, processes: Processes) -> Iterator[Node]:
    home = processes.directory / "disk"
    relay = Relay(cloud.glance.url)
    relay.start()
    images = {store: cloud.images.create(BODY, store=store) for store in (FILE_STORE, SWIFT_STORE)}
    try:
        with volume(home) as disk:
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

    def rounds(self, whole: int = 2) -> Iterator[Image]:
        """The images to try; each time the node has nothing, and afterwards it has to live and to cache."""
        stores = [FILE_STORE, SWIFT_STORE]
        for number in range(self.campaign.scale(1, whole * 2)):
            # In short each kind of trouble meets one store, the next kind the other.
            image = self.node.images[stores[(number + _turns()) % 2]]
            self.node.reset()
            yield image
            self.times += 1
            assert self.node.proxy.is_running
            assert set(self.seen) == {"right"}, self.seen
            self.is_cached_again(image)

    def some_of(self, kinds: Sequence[_T]) -> Sequence[_T]:
        """All of them, or in short two at most, another time others."""
        first = _turns() * 2 % len(kinds)
        return kinds if self.campaign.whole else kinds[first : first + max(1, len(kinds) // 3)]

    def cache(self, image: Image) -> None:
        """Have the whole image on the disk, and known to be right."""
        assert Clients(self.node, image).get() == "right"
        self.node.proxy.until_complete(image)
        time.sleep(RECORDED_WITHIN)

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
        strike()
        self._with_clients(Clients(self.node, image), None)

    def ask(self, image: Image) -> None:
        self._with_clients(Clients(self.node, image), None)

    def _with_clients(self, clients: Clients, strike: Callable[[], None] | None) -> None:
        clients.all_at_once(strike)
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

    def record(self, what: str, lost: str = "nothing") -> None:
        self.node.sound = True
        self.campaign.record(AREA, what, times=self.times, clients=self.seen, lost=lost)


def _turns(counted: list[int] = []) -> int:  # noqa: B006
    """Grows by one with each call."""
    counted.append(0)
    return len(counted)


@pytest.fixture
def trial(node: Node, campaign: Campaign) -> Trial:
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
        assert set(seen) == {"right"}, seen
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
    trial.record(f"Every read and write of the disk fails, {_words(moment)}", "what was on its way")


@pytest.mark.parametrize("moment", ["mid_fill", "mid_hit", "idle"])
def test_a_disk_that_turns_read_only(node: Node, trial: Trial, moment: str) -> None:
    """What is on it, and recorded, is still served from it."""
    for image in trial.rounds():
        getattr(trial, moment)(image, node.turn_read_only)
        if moment != "mid_fill":
            assert node.relay.moved(image.path) == image.size
        node.repair()
    trial.record(f"The kernel turns the file system read-only, {_words(moment)}", "what was on its way")


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
    trial.record(f"The whole cache directory is removed, {_words(moment)}", "what was in it")


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
            node.proxy.stop()
            spoil(node)
            node.proxy.start()
            node.proxy.until_complete(image)
            trial.ask(image)
            assert node.relay.moved(image.path) == moved
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
