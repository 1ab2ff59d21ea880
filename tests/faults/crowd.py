"""Clients that come and go while a node is treated badly: they download, whole and in part, and judge every
byte; an operator among them purges."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException

from attrs import define, field

from tests.cloud.client import Download, request
from tests.cloud.images import Image
from tests.cloud.proxy import Proxy
from tests.faults.roles import at_work

_LARGEST_RANGE = 2 << 20

RIGHT, CUT, REFUSED, OTHER = "whole and right", "cut off", "not answered", "another status"


@define(eq=False)
class Crowd:
    """So many clients of one node, and what they saw. `wrong` says what should not have been."""

    proxy: Proxy
    images: Sequence[Image]
    seed: int
    clients: int = 3
    purges: bool = True
    seen: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within this they are at it; at the end each comes to the end of what it is doing."""
        roles: list[Callable[[random.Random], float]] = [self._download] * self.clients
        if self.purges:
            roles.append(self._purge)
        self.seed += 1
        with at_work(roles, self._work, self.seed):
            yield

    def sample(self, rng: random.Random, count: int) -> None:
        """Download so many images, all of which have to come."""
        for image in rng.sample(list(self.images), count):
            self.expect_whole(image)

    def expect_whole(self, image: Image) -> None:
        outcome = self._judge(self.proxy.download(image), image, 0, image.size)
        self.seen[outcome] += 1
        if outcome != RIGHT:
            self.wrong.append(f"{image.id}: {outcome} from a node in order")

    def _work(
        self, role: Callable[[random.Random], float], rng: random.Random, over: threading.Event
    ) -> None:
        try:
            while not over.wait(role(rng)):
                pass
        except Exception as error:
            self.wrong.append(repr(error))
            raise

    def _download(self, rng: random.Random) -> float:
        image = rng.choice(self.images)
        start, stop = 0, image.size
        headers = {}
        if rng.random() < 0.5:
            start = rng.randrange(image.size)
            stop = min(image.size, start + rng.randint(1, _LARGEST_RANGE))
            headers["Range"] = f"bytes={start}-{stop - 1}"
        try:
            got = self.proxy.download(image, headers=headers)
        except (OSError, HTTPException):
            self.seen[REFUSED] += 1
            return 0.05
        self.seen[self._judge(got, image, start, stop)] += 1
        return rng.uniform(0, 0.05)

    def _judge(self, got: Download, image: Image, start: int, stop: int) -> str:
        if got.status != (200 if (start, stop) == (0, image.size) else 206):
            self.wrong.append(f"{image.id} [{start}, {stop}): status {got.status}")
            return OTHER
        if not _is_part(got, image, start, stop):
            self.wrong.append(f"{image.id} [{start}, {stop}): {got.size} bytes that are not the image's")
        return RIGHT if got.whole else CUT

    def _purge(self, rng: random.Random) -> float:
        image = rng.choice(self.images)
        try:
            request("DELETE", f"{self.proxy.manage_url}/cache/images/{image.id}", timeout=20)
        except (OSError, HTTPException):
            self.seen[REFUSED] += 1
        return rng.uniform(0.3, 2)


def _is_part(got: Download, image: Image, start: int, stop: int) -> bool:
    """Whether what came is what was asked for, or the beginning of it where it was cut off."""
    if got.whole and got.size != stop - start:
        return False
    if (start, got.size) == (0, image.size):
        return got.sha512 == image.payload.sha512
    return got.sha512 == image.payload.hash_of(start, start + got.size)


def wait(rng: random.Random, least: float, most: float) -> None:
    time.sleep(rng.uniform(least, most))
