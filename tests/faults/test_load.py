"""A node under everything at once for minutes: every byte right, nothing left behind, nobody held up."""

import os
import re
import time
from collections import Counter
from pathlib import Path

from attrs import frozen

from tests.cloud.client import call
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.pings import EVERY, pinged
from tests.faults.traffic import Traffic

#: The bodies that clients choose from; the cache may hold a third of them.
SIZES = (MIB // 4, MIB, 2 * MIB + 1, 5 * MIB - 7, 8 * MIB, 12 * MIB)
COPIES = 4
#: Bytes of memory that a node may take more in the second half of a soak: it remembers for ten minutes what
#: became of each job. In the first seconds it is still getting warm.
GROWTH, GROWTH_WHEN_NEW = 4 * MIB, 8 * MIB
#: What the log says where a body that was to be kept could not be.
NO_ROOM = ": no room for "
#: Seconds for which it may hold its reactor up.
STALL = 0.1
#: Connections to Glance that are kept for the next request come and go as well.
KEPT_CONNECTIONS = 16


@frozen
class Footprint:
    """What the node takes of the machine."""

    memory: int
    descriptors: int
    bodies: int

    @classmethod
    def of(cls, proxy: Proxy) -> "Footprint":
        names = []
        for fd in Path(f"/proc/{proxy.service.pid}/fd").iterdir():
            try:
                names.append(os.readlink(fd))
            except FileNotFoundError:  # it was closed meanwhile
                continue
        return cls(proxy.rss(), len(names), sum("/bodies/" in name for name in names))


def metric(proxy: Proxy, name: str) -> float:
    text = call("GET", f"{proxy.manage_url}/metrics").body.decode()
    found = re.search(rf"^txglancecache_{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def until_quiet(proxy: Proxy) -> None:
    """Nobody reads, nothing is fetched or checked, and no job waits."""

    def quiet() -> bool:
        idle = all(
            not (entry["readers"] or entry["filling"]) and entry["bytes_on_disk"]
            for entry in proxy.images().values()
        )
        status = proxy.status()
        at_rest = not any(status["jobs"].values()) and not status["sizes"]["reserved"]
        return idle and at_rest and metric(proxy, "readers") == 0 and metric(proxy, "fills") == 0

    proxy.until(quiet, "peace and quiet", 60)


def test_soak(campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay) -> None:
    """Downloads of every kind, uploads, deletions, operators, listeners and evictions side by side."""
    seconds, looks = campaign.scale(8, 600), campaign.scale(2, 10)
    payloads = [Payload(size, seed=700 + number) for number, size in enumerate(SIZES * COPIES)]
    images = [cloud.images.create(payload) for payload in payloads]
    total = sum(payload.size for payload in payloads)
    proxy = start_proxy(authorization_ttl=1, max_size=total // 3, min_free=0)
    traffic = Traffic(cloud, proxy, images)
    everybody = (
        *(traffic.whole, traffic.whole, traffic.whole, traffic.part, traffic.part, traffic.parts),
        *(traffic.conditional, traffic.leaving, traffic.upload, traffic.operate, traffic.watch),
    )
    found: list[Footprint] = []
    with pinged(proxy) as pings:
        for _ in range(looks):
            with traffic.under_way(*everybody):
                time.sleep(seconds / looks)
            until_quiet(proxy)
            found.append(Footprint.of(proxy))
    assert not traffic.wrong, traffic.wrong[:10]
    traffic.unpin_all()
    until_quiet(proxy)

    # what clients got is what the node says it sent; to those who left it may have sent more
    counters, sizes, got = proxy.status()["counters"], proxy.status()["sizes"], traffic.received
    received, left = got.cached + got.passed, got.cached_left + got.passed_left
    assert received <= counters["bytes_served"] <= received + left
    assert counters["bytes_from_disk"] <= got.cached + got.cached_left
    assert got.passed <= counters["bytes_passed_through"]
    if NO_ROOM not in proxy.service.logged():
        assert got.cached <= counters["bytes_from_disk"]
        assert counters["bytes_passed_through"] <= got.passed + got.passed_left
    assert counters["evictions"] > 0
    assert sizes["bytes_on_disk"] <= sizes["max_size"] == total // 3

    # it takes no more of the machine than when it had warmed up
    warm, later = found[looks // 2 - 1], found[looks // 2 :]
    memory = [each.memory for each in found]
    grown = max(each.memory for each in later) - warm.memory
    assert grown <= (GROWTH if campaign.whole else GROWTH_WHEN_NEW), memory
    assert Footprint.of(proxy).bodies <= len(proxy.images())
    assert max(each.descriptors for each in later) <= warm.descriptors + KEPT_CONNECTIONS

    # nobody was kept waiting, as it says itself and as was seen from outside
    stall = max(metric(proxy, "reactor_longest_stall_seconds"), pings.longest_held + EVERY)
    assert stall < (STALL if campaign.whole else 5 * STALL), pings
    took = ", ".join(
        (
            f"memory {' '.join(f'{each / MIB:.0f}' for each in memory)} MiB",
            f"descriptors {' '.join(str(each.descriptors) for each in found)}",
            f"longest stall {stall * 1000:.0f} ms by {pings.count} pings "
            f"({pings.longest * 1000:.0f} ms with the wait for a processor)",
        )
    )
    campaign.record(
        "Load",
        f"{seconds} s of mixed traffic on {total // MIB} MiB of images, a third of them in the cache",
        times=sum(traffic.seen.values()),
        clients=traffic.seen,
        lost=f"{len(traffic.wrong)} of them; {took}",
    )


def test_accounts(campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay) -> None:
    """When all clients stay to the end, the node's counters are to the byte what they got. What crossed the
    wire to Glance is what the node counted, and what was still on its way when a transfer was cut short."""
    payloads = [Payload(size, seed=800 + number) for number, size in enumerate(SIZES)]
    images = [cloud.images.create(payload) for payload in payloads]
    proxy = start_proxy(authorization_ttl=1, max_size=sum(payload.size for payload in payloads) // 3)
    traffic = Traffic(cloud, proxy, images)
    with traffic.under_way(traffic.whole, traffic.part, traffic.parts, traffic.conditional, traffic.whole):
        time.sleep(campaign.scale(4, 30))
    assert not traffic.wrong, traffic.wrong[:10]
    until_quiet(proxy)
    counters, got = proxy.status()["counters"], traffic.received
    # what was to come from the disk comes from Glance where there is no room for it after all
    continued = got.cached - counters["bytes_from_disk"]
    without_room = proxy.service.logged().count(NO_ROOM)
    assert continued == 0 or (continued > 0 and without_room)
    assert counters["bytes_passed_through"] == got.passed + continued
    assert counters["bytes_served"] == got.cached + got.passed
    transfers = [exchange for image in images for exchange in relay.transfers(image.path)]
    moved = sum(exchange.received for exchange in transfers)
    cut = [exchange for exchange in transfers if not exchange.response_whole]
    on_the_way = moved - counters["bytes_passed_through"] - counters["bytes_from_origin"]
    # a transfer that is given up close to its end looks like a whole one from there
    assert 0 <= on_the_way <= (len(cut) + without_room) * MIB
    assert counters["bytes_filled"] == counters["bytes_from_origin"]
    campaign.record(
        "Load",
        "The node's counters held against its clients and the wire",
        times=sum(traffic.seen.values()),
        clients=Counter({"bytes to clients": got.cached + got.passed, "bytes from Glance": moved}),
    )
