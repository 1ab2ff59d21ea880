"""What Prometheus is told, and the dashboard that shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, define, evolve, field
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from tests.unit.management.native.world import STATUS, FakeCache, FakeJobs
from txglancecache.cache.status import Counters, JobKind, JobState
from txglancecache.errors import OriginBusy, OriginProtocolError, OriginTimeout, OriginUnreachable
from txglancecache.management.managed import NodeFacts
from txglancecache.management.metrics import (
    CacheCollector,
    DownloadMetrics,
    LagMeter,
    OriginMetrics,
    exposition,
    process_metrics,
)

DASHBOARD = Path(__file__).parents[3] / "docs/grafana/txglancecache.json"


@define(eq=False)
class World:
    """Everything that measures, and what it measured."""

    registry: CollectorRegistry = field(factory=CollectorRegistry)
    clock: Clock = field(factory=Clock)
    cache: FakeCache = field(factory=FakeCache)
    jobs: FakeJobs = field(factory=FakeJobs)
    starved: float = 0.0
    downloads: DownloadMetrics = field(init=False)
    origin: OriginMetrics = field(init=False)
    lag: LagMeter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.cache.now = evolve(STATUS, counters=asdict(Counters(hits=3, bytes_from_origin=5)))
        node = NodeFacts("node1", "1.2", "http://glance:9292", 0.0, "keystone")
        self.registry.register(CacheCollector(self.cache, self.jobs, node))
        process_metrics(self.registry)
        self.downloads = DownloadMetrics(self.registry)
        self.origin = OriginMetrics(self.registry)
        self.lag = LagMeter(self.registry, self.clock, lambda: self.starved)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"txglancecache_{name}", labels)


@pytest.fixture
def world() -> World:
    return World()


def test_cache(world: World) -> None:
    """What the cache and the queue tell of themselves is read when it is asked for."""
    world.jobs.submit(JobKind.VERIFY, ["a", "b"])
    world.jobs.all[1] = evolve(world.jobs.all[1], state=JobState.RUNNING)
    assert world.value("hits_total") == 3
    assert world.value("fetched_bytes_total") == 5
    assert world.value("entries") == 2
    assert world.value("fills") == 1
    assert world.value("disk_bytes") == 600
    assert world.value("jobs", state="queued") == 1
    assert world.value("jobs", state="running") == 1
    assert world.value("build_info", version="1.2", origin="http://glance:9292", auth="keystone") == 1


def test_every_counter(world: World) -> None:
    """Every counter of the cache is measured."""
    names = {family.name for family in world.registry.collect()}
    renamed = {
        "bytes_served": "served_bytes",
        "bytes_from_disk": "served_from_disk_bytes",
        "bytes_passed_through": "passed_through_bytes",
        "bytes_from_origin": "fetched_bytes",
        "bytes_filled": "filled_bytes",
        "verified": "verifications",
    }
    for name in asdict(Counters()):
        assert f"txglancecache_{renamed.get(name, name)}" in names


def test_downloads(world: World) -> None:
    """A download counts among the readers while it goes on, and its bytes by where they were."""
    world.downloads.began("partial", 0.02)
    assert world.value("readers") == 1
    world.downloads.ended("partial", 2.0, 3 << 20, 1 << 20, whole=True)
    assert world.value("readers") == 0
    assert world.value("sent_bytes_total", source="disk") == 3 << 20
    assert world.value("sent_bytes_total", source="origin") == 1 << 20
    assert world.value("first_byte_seconds_sum", how="partial") == 0.02
    assert world.value("throughput_bytes_per_second_sum", how="partial") == 2 << 20
    assert world.value("broken_off_total", how="partial") is None


def test_broken_download(world: World) -> None:
    """One that ends before its end, or is over at once, says nothing about throughput."""
    world.downloads.began("hit", 0.0)
    world.downloads.ended("hit", 2.0, 3 << 20, 0, whole=False)
    world.downloads.began("hit", 0.0)
    world.downloads.ended("hit", 1.0, 5, 0, whole=True)
    world.downloads.began("hit", 0.0)
    world.downloads.ended("hit", 0.0, 3 << 20, 0, whole=True)
    assert world.value("broken_off_total", how="hit") == 1
    assert world.value("throughput_bytes_per_second_count", how="hit") is None


def test_origin(world: World) -> None:
    """The origin's answers are timed by their kind, and its failures counted by theirs."""
    world.origin.answered(b"GET", 206, 0.3)
    world.origin.answered(b"GET", 404, 0.1)
    assert world.value("origin_seconds_sum", status="2xx") == 0.3
    assert world.value("origin_seconds_count", status="4xx") == 1
    for error, kind in (
        (OriginTimeout("x"), "timeout"),
        (OriginUnreachable("x"), "unreachable"),
        (OriginProtocolError("x"), "protocol"),
        (OriginBusy("x"), "busy"),
        (ValueError("x"), "other"),
    ):
        world.origin.failed(error)
        assert world.value("origin_errors_total", kind=kind) == 1


def test_lag(world: World) -> None:
    """How late the reactor is, is how late it comes to look at it."""
    world.lag.start()
    world.clock.advance(0.1)
    assert world.value("reactor_lag_seconds_sum") == 0
    world.clock.rightNow += 1.0
    world.clock.advance(0)
    assert world.value("reactor_lag_seconds_sum") == pytest.approx(0.9)
    world.lag.stop()
    world.lag.stop()
    assert world.clock.getDelayedCalls() == []


def test_longest_stall(world: World) -> None:
    """What the process held the reactor up for longest is remembered; that there was no processor is not its
    fault."""
    world.lag.start()
    for late, starved in ((0.5, 0.0), (0.25, 0.0), (2.0, 1.8)):
        world.clock.advance(0.1)
        world.starved += starved
        world.clock.rightNow += 0.1 + late
        world.clock.advance(0)
    assert world.value("reactor_longest_stall_seconds") == pytest.approx(0.5)
    world.lag.stop()


def test_forms(world: World) -> None:
    """The measurements come as text, or in the OpenMetrics form for whoever asks."""
    text, kind = exposition(world.registry, "*/*")
    assert kind.startswith("text/plain")
    assert {family.name for family in text_string_to_metric_families(text.decode())} >= {"txglancecache_hits"}
    text, kind = exposition(world.registry, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_dashboard(world: World) -> None:
    """Every panel of the dashboard shows something that is measured, and all that is measured is shown."""
    dashboard: Any = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    shown: set[str] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            shown |= set(re.findall(r"\b(?:txglancecache|process|python)_[a-z_]+", target["expr"]))
    measured = set()
    for family in world.registry.collect():
        suffixes = {
            "counter": ["_total"],
            "histogram": ["_bucket", "_count", "_sum"],
        }.get(family.type, [""])
        measured |= {family.name + suffix for suffix in suffixes}
    assert shown <= measured, shown - measured
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in measured if name.startswith("txglance")}
    assert ours == {
        re.sub(r"_(bucket|count|sum)$", "", name) for name in shown if name.startswith("txglance")
    }
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
