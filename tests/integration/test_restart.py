"""What is on disk outlives the process, however it ends."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cloud.client import Download
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.glance import FILE_STORE, SWIFT_STORE
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay
from tests.faults.recorded import live_rows

BODY = Payload(64 * MIB, seed=10)
SMALL = Payload(4 * MIB, seed=11)


@pytest.fixture
def proxy(start_proxy: ProxyFactory) -> Proxy:
    """A proxy of the test's own, which lets downloads go on for a second when it is told to stop."""
    return start_proxy(authorization_ttl=0, shutdown_grace=1)


def terminate(proxy: Proxy) -> None:
    proxy.stop()


def kill(proxy: Proxy) -> None:
    proxy.until(lambda: recorded(proxy) == held(proxy), "what is on disk in the index too")
    proxy.kill()


def recorded(proxy: Proxy) -> dict[str, tuple[int, bool]]:
    """How much of each image the index has, and whether it is verified."""
    return {row.image_id: (row.total, row.verified) for row in live_rows(proxy.cache_dir)}


def held(proxy: Proxy) -> dict[str, tuple[int, bool]]:
    """The same as the running node has it."""
    return {
        image_id: (entry["bytes_on_disk"], entry["complete"]) for image_id, entry in proxy.images().items()
    }


both_ends = pytest.mark.parametrize("end", [terminate, kill], ids=["SIGTERM", "SIGKILL"])


def begin(image: Image, token: str, proxy: Proxy, pool: ThreadPoolExecutor) -> Callable[[], Download]:
    """A download that does not come to its end."""
    return pool.submit(proxy.download, image, token).result


@both_ends
def test_complete_entries(end: Callable[[Proxy], None], cloud: Cloud, proxy: Proxy, relay: Relay) -> None:
    """An image that was complete is a hit after a restart."""
    image, token = cloud.images.create(SMALL), cloud.token("alice")
    assert proxy.download(image, token).sha512 == SMALL.sha512
    proxy.until_complete(image)
    before = proxy.images()[image.id]
    end(proxy)
    proxy.start()
    after = proxy.images()[image.id]
    assert after["complete"]
    assert {name: after[name] for name in ("size", "digest", "created")} == {
        name: before[name] for name in ("size", "digest", "created")
    }
    again = proxy.download(image, token)
    assert again.sha512 == SMALL.sha512
    assert "hit" in again.cache_status
    assert relay.moved(image.path) == image.size


@both_ends
@pytest.mark.parametrize("store", [FILE_STORE, SWIFT_STORE])
def test_partial_bodies(
    store: str, end: Callable[[Proxy], None], cloud: Cloud, proxy: Proxy, relay: Relay
) -> None:
    """What had come of an image stays; from a store that can be read at an offset only the rest is
    fetched."""
    image, token = cloud.images.create(BODY, store=store), cloud.token("alice")
    relay.hold(24 * MIB)
    with ThreadPoolExecutor() as pool:
        cut_short = begin(image, token, proxy, pool)
        proxy.until_holds(image, 20 * MIB)
        end(proxy)
        assert not cut_short().whole
    relay.calm()
    proxy.start()
    entry = proxy.entry(image)
    held = entry["bytes_on_disk"]
    assert not entry["complete"]
    assert 16 * MIB <= held <= 24 * MIB
    assert sum(stop - start for start, stop in entry["extents"]) == held

    whole = proxy.download(image, token)
    assert (whole.status, whole.whole, whole.sha512) == (200, True, BODY.sha512)
    proxy.until_complete(image)
    if store == FILE_STORE:
        assert relay.moved(image.path) == image.size - held
    assert len(relay.transfers(image.path)) == 1


def test_running_downloads_are_let_finish(start_proxy: ProxyFactory, cloud: Cloud) -> None:
    """After SIGTERM a download within the grace period gets its whole body."""
    proxy = start_proxy(shutdown_grace=20)
    image, token = cloud.images.create(BODY), cloud.token("alice")
    proxy.download(image, token)
    proxy.until_complete(image)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(proxy.download, image, token, rate=40e6)
        proxy.until(lambda: proxy.images()[image.id]["readers"] == 1, "a reader")
        proxy.stop()
        assert running.result().sha512 == BODY.sha512


def test_a_damaged_index(cloud: Cloud, proxy: Proxy) -> None:
    """Without its index a cache starts over; it serves no wrong byte and leaves nothing on disk that it does
    not know."""
    image, token = cloud.images.create(SMALL), cloud.token("alice")
    assert proxy.download(image, token).sha512 == SMALL.sha512
    proxy.until_complete(image)
    proxy.stop()
    for file in proxy.cache_dir.glob("index.sqlite*"):
        file.write_bytes(b"this is no database" * 100)
    proxy.start()
    assert proxy.download(image, token).sha512 == SMALL.sha512
    proxy.until_complete(image)
    assert proxy.disk_use() < 2 * image.size
