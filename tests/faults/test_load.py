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
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.faults.traffic import Traffic

#: The bodies that clients choose from; the cache may hold a third of them.
SIZES = (MIB // 4, MIB, 2 * MIB + 1, 5 * MIB - 7, 8 * MIB, 12 * MIB)
COPIES = 4
#: Bytes of memory that may come and go with what happens to be under way when it is looked at.
SWAY = 16 * MIB
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
    seconds = campaign.scale(16, 600)
    payloads = [Payload(size, seed=700 + number) for number, size in enumerate(SIZES * COPIES)]
    images = [cloud.images.create(payload) for payload in payloads]
    total = sum(payload.size for payload in payloads)
    proxy = start_proxy(authorization_ttl=1, max_size=total // 3, min_free=0)
    traffic = Traffic(cloud, proxy, images)
    everybody = (
        *(traffic.whole, traffic.whole, traffic.whole, traffic.part, traffic.part, traffic.parts),
        *(traffic.conditional, traffic.leaving, traffic.upload, traffic.operate, traffic.watch),
    )
    with traffic.under_way(*everybody):
        time.sleep(seconds / 4)
    until_quiet(proxy)
    warm = Footprint.of(proxy)
    with traffic.under_way(*everybody):
        time.sleep(seconds * 3 / 4)
    assert not traffic.wrong, traffic.wrong[:10]
    traffic.unpin_all()
    until_quiet(proxy)

    # what clients got is what the node says it sent; to those who left it may have sent more
    status, got = proxy.status(), traffic.received
    assert got.cached <= status["counters"]["bytes_from_disk"] <= got.cached + got.promised
    assert status["counters"]["evictions"] > 0
    assert status["sizes"]["bytes_on_disk"] <= status["sizes"]["max_size"] == total // 3

    # it takes no more of the machine than when it had warmed up
    end = Footprint.of(proxy)
    assert end.bodies <= len(proxy.images())
    assert eventually(lambda: Footprint.of(proxy).descriptors <= warm.descriptors + KEPT_CONNECTIONS)
    assert end.memory <= warm.memory + SWAY, f"{warm.memory} -> {end.memory}"

    stall = metric(proxy, "reactor_longest_stall_seconds")
    assert stall < (0.1 if campaign.whole else 0.5)
    campaign.record(
        "Load",
        f"{seconds} s of mixed traffic on {total // MIB} MiB of images, a third of them in the cache",
        times=sum(traffic.seen.values()),
        clients=traffic.seen,
        lost=f"nothing; memory {_change(warm.memory, end.memory)}, descriptors "
        f"{warm.descriptors} -> {end.descriptors}, longest stall {stall * 1000:.0f} ms",
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
    assert counters["bytes_served"] == counters["bytes_from_disk"] + counters["bytes_passed_through"]
    assert counters["bytes_from_disk"] == got.cached
    assert counters["bytes_passed_through"] == got.passed
    moved = sum(relay.moved(image.path) for image in images)
    transfers = sum(len(relay.transfers(image.path)) for image in images)
    on_the_way = moved - got.passed - counters["bytes_from_origin"]
    assert 0 <= on_the_way <= transfers * MIB
    assert counters["bytes_filled"] <= counters["bytes_from_origin"]
    campaign.record(
        "Load",
        "The node's counters held against its clients and the wire",
        times=sum(traffic.seen.values()),
        clients=Counter({"bytes to clients": got.cached + got.passed, "bytes from Glance": moved}),
    )


def _change(before: int, after: int) -> str:
    return f"{before / MIB:.0f} -> {after / MIB:.0f} MiB"
