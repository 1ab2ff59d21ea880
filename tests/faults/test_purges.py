"""Whoever comes after a purge has been answered gets what the origin has then, and nothing older, however
many are downloading and filling meanwhile."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException

import pytest
from attrs import define, field

from tests.cloud.client import request
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.imitation import Imitation
from tests.cloud.ports import LOOPBACK
from tests.cloud.proxy import Proxy
from tests.faults import changing
from tests.faults.campaign import Campaign
from tests.faults.changing import IMAGE_ID, PAGE, PATH, SIZE, Changing

NEW, OLD, CUT, MIXED = "whole and new", "OLD", "cut off", "MADE UP"
#: What clients ask for; None: all of it.
_RANGES = (None, (SIZE // 2, SIZE), (0, 16 * PAGE), None)


@define(eq=False)
class Downloaders:
    """Clients who know of each byte that they get whether they may still get it.

    :param floor: the edition that the image was when it was last purged: nobody who comes now gets an older.
    """

    proxy: Proxy
    image: Changing
    floor: int = 1
    seen: Counter[str] = field(factory=Counter)
    stale: list[str] = field(factory=list)
    _over: threading.Event = field(factory=threading.Event)
    _lock: threading.Lock = field(factory=threading.Lock)

    @contextmanager
    def at_work(self, count: int) -> Iterator[None]:
        """Within this so many download again and again."""
        with ThreadPoolExecutor(count) as pool:
            running = [pool.submit(self._work, number) for number in range(count)]
            try:
                yield
            finally:
                self._over.set()
            for each in running:
                each.result()

    def _work(self, number: int) -> None:
        while not self._over.is_set():
            self.download(number)

    def download(self, number: int) -> str:
        """One download, judged by the edition that there was when it began."""
        floor = self.floor
        wanted = _RANGES[number % len(_RANGES)]
        start, stop = wanted or (0, SIZE)
        status, body = self._get({} if wanted is None else {"Range": f"bytes={start}-{stop - 1}"})
        outcome = f"answered with {status}"
        if status in (200, 206):
            outcome = self._judge(body, start, floor)
            if outcome == NEW and len(body) < stop - start:
                outcome = CUT
        with self._lock:
            self.seen[outcome] += 1
        return outcome

    def _get(self, fields: dict[str, str]) -> tuple[int, bytes]:
        """The status and all of the body that came; 0: not even a head."""
        body, status = bytearray(), 0
        connection = HTTPConnection(LOOPBACK, self.proxy.port, timeout=60)
        with closing(connection), suppress(HTTPException, ConnectionError):
            connection.request("GET", PATH, headers=fields)
            response = connection.getresponse()
            status = response.status
            while piece := response.read1(1 << 18):
                body += piece
        return status, bytes(body)

    def _judge(self, body: bytes, start: int, floor: int) -> str:
        try:
            found = changing.editions(body, start)
        except ValueError as error:
            self.stale.append(str(error))
            return MIXED
        if found and not floor <= min(found) <= max(found) <= self.image.edition:
            self.stale.append(f"editions {sorted(found)} after {floor} had come")
            return OLD
        return NEW


@pytest.mark.parametrize("described", [False, True], ids=["undescribed", "described"])
def test_purges(described: bool, start_proxy: ProxyFactory, campaign: Campaign) -> None:
    """The origin's image becomes another one, and then it is purged, again and again. Where no digest tells
    the one from the other, everybody who comes afterwards gets all of the new one; nor is a file of the old
    one left.

    Where a digest does, a client may be cut off that shares a question which was asked before; no image of
    Glance's becomes another.
    """
    image = Changing(described)
    origin = Imitation(image)
    proxy = start_proxy(origin=origin.url, authorization_ttl=2, digest_check="before" if described else "off")
    downloaders = Downloaders(proxy, image)
    purges, files_left = campaign.scale(8, 200), 0
    after: Counter[str] = Counter()
    try:
        with downloaders.at_work(3), ThreadPoolExecutor(4) as pool:
            for number in range(purges):
                origin.pause = (0.0, 0.002, 0.01)[number % 3]
                time.sleep((number % 7) * 0.01)
                files = _bodies(proxy)
                image.edition += 1
                if _purge(proxy, everything=number % 4 == 3):
                    files_left += len(files & _bodies(proxy))
                downloaders.floor = image.edition
                after.update(pool.map(downloaders.download, range(4)))
    finally:
        origin.close()
    campaign.record(
        "Security",
        "purges while others download and fill, the image another one from each of them on"
        + (", and described as such" if described else ", which nothing but the purge tells"),
        times=purges,
        clients=downloaders.seen,
        lost="nothing"
        if not (downloaders.stale or files_left)
        else f"{len(downloaders.stale)} stale, {files_left} files left",
    )
    assert (downloaders.stale, files_left) == ([], 0)
    assert after[NEW] > 3 * purges
    if not described:
        assert set(after) == {NEW}


def _purge(proxy: Proxy, *, everything: bool) -> bool:
    """Whether there was anything."""
    if not everything:
        answer = request("DELETE", f"{proxy.manage_url}/cache/images/{IMAGE_ID}")
        assert answer.status in (204, 404)
        return answer.status == 204
    answer = request("DELETE", f"{proxy.manage_url}/cache/images")
    assert answer.status == 200
    return bool(answer.json()["purged"])


def _bodies(proxy: Proxy) -> set[str]:
    key = hashlib.sha256(f"{proxy.origin}\n{IMAGE_ID}".encode()).hexdigest()[:40]
    return {path.name for path in proxy.cache_dir.glob(f"bodies/*/{key}.*")}
