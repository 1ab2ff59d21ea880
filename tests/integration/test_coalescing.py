"""One transfer from Glance per image, however many clients there are and however they come, go and dawdle."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.client import Download, after
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.glance import FILE_STORE, SWIFT_STORE
from tests.cloud.images import Image
from tests.cloud.payload import GIB, MIB, Payload
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay

CLIENTS = 16
BIG = Payload(GIB, seed=2)
BODY = Payload(64 * MIB, seed=3)
both_stores = pytest.mark.parametrize("store", [FILE_STORE, SWIFT_STORE])


class Crowd:
    """Clients of one image, each in a thread of its own."""

    def __init__(self, proxy: Proxy, image: Image, token: str, pool: ThreadPoolExecutor) -> None:
        self.proxy, self.image, self.token, self.pool = proxy, image, token, pool

    def join(self, **how: Any) -> "Future[Download]":
        """One more client. Returns when its first byte is in."""
        begun = threading.Event()
        future = self.pool.submit(self.proxy.download, self.image, self.token, on_first_byte=begun.set, **how)
        future.add_done_callback(lambda _: begun.set())
        assert begun.wait(30)
        return future


def assert_whole(download: Download, image: Image) -> None:
    assert (download.status, download.size, download.whole) == (200, image.size, True)
    assert download.sha512 == image.payload.sha512


@pytest.fixture(scope="module")
def big_image(cloud: Cloud) -> Image:
    image = cloud.images.create(BIG)
    shown = cloud.images.show(image)
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha512", BIG.sha512)
    return image


def test_sixteen_cold_clients(big_image: Image, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """A cold image of 1 GiB that 16 clients ask for at once crosses the wire once; each gets all of it, and
    its first bytes at once; the next download moves no byte of it."""
    token = cloud.token("alice")
    relay.hold(8 * MIB)
    everybody_has_begun = threading.Barrier(CLIENTS, action=lambda: relay.hold(None))
    with ThreadPoolExecutor(CLIENTS) as pool:
        downloads = [
            pool.submit(proxy.download, big_image, token, on_first_byte=lambda: everybody_has_begun.wait(60))
            for _ in range(CLIENTS)
        ]
        results = [download.result() for download in downloads]
    for result in results:
        assert_whole(result, big_image)
    assert len(relay.transfers(big_image.path)) == 1
    assert relay.moved(big_image.path) == GIB
    assert all("fwd=" in result.cache_status for result in results)
    assert sum("collapsed" in result.cache_status for result in results) == CLIENTS - 1

    again = proxy.download(big_image, token)
    assert_whole(again, big_image)
    assert "hit" in again.cache_status
    assert relay.moved(big_image.path) == GIB
    entry = proxy.entry(big_image)
    assert (entry["complete"], entry["size"], entry["bytes_on_disk"]) == (True, GIB, GIB)
    assert BIG.sha512 in entry["digest"]


@both_stores
def test_one_transfer(store: str, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """Clients that come at different times share one transfer, whichever store Glance reads from."""
    image = cloud.images.create(BODY, store=store)
    token = cloud.token("alice")
    with ThreadPoolExecutor() as pool:
        crowd = Crowd(proxy, image, token, pool)
        downloads = []
        for at in (1, 8, 16, 32):
            relay.hold(at * MIB)
            downloads.append(crowd.join())
        relay.hold(None)
        for download in downloads:
            assert_whole(download.result(), image)
    assert relay.moved(image.path) == image.size
    assert len(relay.transfers(image.path)) == 1


def test_a_slow_client_beside_fast_ones(cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """A client that reads 1 MB/s holds up neither the transfer nor the other clients."""
    image = cloud.images.create(BODY)
    with ThreadPoolExecutor() as pool:
        crowd = Crowd(proxy, image, cloud.token("alice"), pool)
        relay.hold(MIB)
        done = threading.Event()
        slow = crowd.join(rate=10**6, leave=lambda size: done.is_set())
        fast = [crowd.join() for _ in range(3)]
        relay.hold(None)
        for download in fast:
            assert_whole(download.result(), image)
        proxy.until_complete(image)
        assert not slow.done()
        done.set()
        assert slow.result().sha512 == Payload(slow.result().size, seed=3).sha512
    assert relay.moved(image.path) == image.size


def test_a_client_that_leaves(cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """The only client leaves during a miss: the transfer goes on to its end, and the next client has a
    hit."""
    image = cloud.images.create(BODY)
    token = cloud.token("alice")
    relay.hold(8 * MIB)
    left = proxy.download(image, token, leave=after(MIB))
    assert not left.whole
    assert eventually(lambda: proxy.images()[image.id]["readers"] == 0)
    relay.hold(None)
    proxy.until_complete(image)
    assert relay.moved(image.path) == image.size
    later = proxy.download(image, token)
    assert_whole(later, image)
    assert "hit" in later.cache_status
    assert relay.moved(image.path) == image.size


def test_the_first_client_leaves(cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """The client that started a transfer leaves: those that joined it do not notice."""
    image = cloud.images.create(BODY)
    with ThreadPoolExecutor() as pool:
        crowd = Crowd(proxy, image, cloud.token("alice"), pool)
        relay.hold(4 * MIB)
        first = crowd.join(leave=after(MIB))
        others = [crowd.join() for _ in range(3)]
        assert not first.result().whole
        relay.hold(None)
        for download in others:
            assert_whole(download.result(), image)
    assert len(relay.transfers(image.path)) == 1


def test_nobody_is_left(start_proxy: ProxyFactory, cloud: Cloud, relay: Relay) -> None:
    """By option a transfer ends when its last client leaves, and the next one fetches only what is
    missing."""
    proxy = start_proxy(finish_fills="no")
    image = cloud.images.create(BODY)
    token = cloud.token("alice")
    relay.hold(16 * MIB)
    proxy.download(image, token, leave=after(12 * MIB))
    assert eventually(lambda: not proxy.images()[image.id]["filling"])
    held = proxy.entry(image)["bytes_on_disk"]
    assert 12 * MIB <= held <= 16 * MIB
    relay.calm()
    assert_whole(proxy.download(image, token), image)
    assert relay.moved(image.path) == image.size - held


@both_stores
def test_a_broken_transfer(store: str, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """Glance's connection breaks in the middle: the clients do not notice, and where Glance can read at an
    offset nothing is fetched twice."""
    image = cloud.images.create(BODY, store=store)
    with ThreadPoolExecutor() as pool:
        crowd = Crowd(proxy, image, cloud.token("alice"), pool)
        relay.hold(MIB)
        downloads = [crowd.join() for _ in range(3)]
        relay.cut(20 * MIB)
        relay.hold(None)
        for download in downloads:
            assert_whole(download.result(), image)
    proxy.until_complete(image)
    broken, *resumed = relay.transfers(image.path)
    assert (broken.response_whole, broken.received) == (False, 20 * MIB)
    if store == FILE_STORE:
        # what the break took with it was on its way from the relay's socket to the disk
        assert image.size <= relay.moved(image.path) <= image.size + 4 * MIB
        assert resumed[0].range is not None
    assert len(resumed) == 1


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The URL of a web server that has the body."""
    (tmp_path / "body").write_bytes(BODY.data)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/body"
        server.shutdown()


def test_an_image_without_a_digest(web: str, cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """Nothing vouches for the bytes of such an image: it is passed through and not kept."""
    image = cloud.images.link(web, BODY)
    shown = cloud.images.show(image)
    assert (shown["status"], shown["os_hash_value"], shown["checksum"]) == ("active", None, None)
    token = cloud.token("alice")
    for _ in range(2):
        assert proxy.download(image, token).sha512 == BODY.sha512
    assert image.id not in proxy.images()
    assert relay.moved(image.path) == 2 * image.size
