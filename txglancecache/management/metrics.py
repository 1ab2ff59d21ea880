"""What is measured, for Prometheus.

What the cache counts itself is read when somebody asks. The rest is told to the observers here by those who
measure it; they know nothing of Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txglancecache.cache.status import JobState
from txglancecache.clients.refusals import Refusal
from txglancecache.errors import OriginBusy, OriginProtocolError, OriginTimeout, OriginUnreachable
from txglancecache.management.managed import ManagedCache, ManagedJobs, NodeFacts

_PREFIX = "txglancecache"
_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SPEEDS = tuple(float(1 << power) for power in range(20, 34))
#: A response that is shorter says nothing about throughput, in bytes.
_WORTH_TIMING = 1 << 20
#: Seconds between two looks at how late the reactor is. What holds it up for longer than that is seen.
_LOOK = 0.1

_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (OriginTimeout, "timeout"),
    (OriginUnreachable, "unreachable"),
    (OriginProtocolError, "protocol"),
    (OriginBusy, "busy"),
)

#: The cache's own counters: their name there, their name here, what they count.
_COUNTERS = (
    ("hits", "hits", "Downloads that were served from the cache alone."),
    ("misses", "misses", "Downloads for which bytes had to be fetched."),
    ("collapsed", "collapsed", "Downloads that joined a fetch that was under way."),
    ("bypassed", "bypassed", "Downloads that were passed through to the origin."),
    ("denied", "denied", "Downloads that the origin did not allow."),
    ("transfers", "transfers", "Transfers from the origin that were begun."),
    ("transfers_failed", "transfers_failed", "Transfers from the origin that broke."),
    ("bytes_served", "served_bytes", "Bytes of images that were sent to clients."),
    ("bytes_from_disk", "served_from_disk_bytes", "Those that were sent out of files."),
    ("bytes_passed_through", "passed_through_bytes", "Those that came from the origin and were not kept."),
    ("bytes_from_origin", "fetched_bytes", "Bytes of images that came from the origin for files."),
    ("bytes_filled", "filled_bytes", "Those that were written into files."),
    ("evictions", "evictions", "Images that were evicted to make room."),
    ("purges", "purges", "Images that were purged."),
    ("verified", "verifications", "Images that were verified."),
    ("verification_failures", "verification_failures", "Images whose digest was wrong."),
)


@define(eq=False)
class DownloadMetrics:
    """Measures downloads; what `txglancecache.proxy.observer.DownloadObserver` asks for."""

    _registry: CollectorRegistry
    _readers: Gauge = field(init=False)
    _bytes: Counter = field(init=False)
    _first_byte: Histogram = field(init=False)
    _throughput: Histogram = field(init=False)
    _broken: Counter = field(init=False)
    _children: dict[tuple[Any, str], Any] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        known: dict[str, Any] = {"namespace": _PREFIX, "registry": self._registry}
        self._readers = Gauge("readers", "Responses that are being sent from the cache.", **known)
        self._bytes = Counter(
            "sent_bytes",
            "Bytes of images that were sent to clients, by where they were.",
            ["source"],
            **known,
        )
        for source in ("disk", "origin"):
            self._bytes.labels(source)
        self._first_byte = Histogram(
            "first_byte_seconds",
            "From a request to the first byte of its image.",
            ["how"],
            buckets=_QUICK,
            **known,
        )
        self._throughput = Histogram(
            "throughput_bytes_per_second",
            "How fast whole responses of a mebibyte or more were sent.",
            ["how"],
            buckets=_SPEEDS,
            **known,
        )
        self._broken = Counter("broken_off", "Responses that ended before their end.", ["how"], **known)

    def began(self, how: str, waited: float) -> None:
        self._readers.inc()
        self._child(self._first_byte, how).observe(waited)

    def ended(self, how: str, seconds: float, from_disk: int, from_origin: int, *, whole: bool) -> None:
        self._readers.dec()
        self._child(self._bytes, "disk").inc(from_disk)
        self._child(self._bytes, "origin").inc(from_origin)
        count = from_disk + from_origin
        if not whole:
            self._broken.labels(how).inc()
        elif count >= _WORTH_TIMING and seconds > 0:
            self._throughput.labels(how).observe(count / seconds)

    def _child(self, metric: Any, label: str) -> Any:
        """The metric with this label, which takes a lock and a while to find."""
        child = self._children.get((metric, label))
        if child is None:
            child = self._children[metric, label] = metric.labels(label)
        return child


@define(eq=False)
class OriginMetrics:
    """Measures the origin; what `txglancecache.origin.observer.OriginObserver` asks for."""

    _registry: CollectorRegistry
    _latency: Histogram = field(init=False)
    _errors: Counter = field(init=False)

    def __attrs_post_init__(self) -> None:
        known: dict[str, Any] = {"namespace": _PREFIX, "registry": self._registry}
        self._latency = Histogram(
            "origin_seconds",
            "From a request to the origin to the head of its answer, by kind of status.",
            ["status"],
            buckets=_QUICK,
            **known,
        )
        self._errors = Counter("origin_errors", "Requests that the origin did not answer.", ["kind"], **known)
        for kind in (*(kind for _, kind in _ERRORS), "other"):
            self._errors.labels(kind)

    def answered(self, method: bytes, status: int, seconds: float) -> None:
        self._latency.labels(f"{status // 100}xx").observe(seconds)

    def failed(self, error: Exception) -> None:
        kind = next((name for known, name in _ERRORS if isinstance(error, known)), "other")
        self._errors.labels(kind).inc()


@define(eq=False)
class ClientMetrics:
    """Measures who comes and who is refused; a `txglancecache.clients.refusals.RefusalObserver`."""

    _registry: CollectorRegistry
    _refused: Counter = field(init=False)
    _connections: Gauge = field(init=False)

    def __attrs_post_init__(self) -> None:
        known: dict[str, Any] = {"namespace": _PREFIX, "registry": self._registry}
        self._refused = Counter(
            "refused", "Clients that were refused or cut off, by reason.", ["site", "reason"], **known
        )
        self._connections = Gauge("connections", "Connections of clients.", ["site"], **known)

    def refused(self, site: str, reason: str) -> None:
        self._refused.labels(site, reason).inc()

    def watch(self, site: str, connections: Callable[[], int]) -> None:
        """Count the refusals of this site from zero, and tell how many connections it has when asked."""
        self._connections.labels(site).set_function(connections)
        for refusal in Refusal:
            self._refused.labels(site, refusal.value)


@define(eq=False)
class LagMeter:
    """Measures how late the reactor is: how long something that is due has to wait.

    :param starved: for how many seconds in all this thread has had something to do and no processor to do it
        on; 0 where nobody knows. That is the machine's fault; the rest is the process's own.
    """

    _registry: CollectorRegistry
    _clock: IReactorTime
    _starved: Callable[[], float] = lambda: 0.0
    _lag: Histogram = field(init=False)
    _longest: Gauge = field(init=False)
    _most: float = field(default=0.0, init=False)
    _call: IDelayedCall | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._lag = Histogram(
            "reactor_lag_seconds",
            "How long something that was due had to wait for the reactor.",
            namespace=_PREFIX,
            registry=self._registry,
            buckets=_LAGS,
        )
        self._longest = Gauge(
            "reactor_longest_stall_seconds",
            "The longest that the process has held its reactor up, without what it waited for a processor.",
            namespace=_PREFIX,
            registry=self._registry,
        )

    def start(self) -> None:
        due = self._clock.seconds() + _LOOK
        self._call = self._clock.callLater(_LOOK, self._look, due, self._starved())

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self, due: float, starved: float) -> None:
        late = max(0.0, self._clock.seconds() - due)
        self._lag.observe(late)
        self._most = max(self._most, late - (self._starved() - starved))
        self._longest.set(self._most)
        self.start()


@define(eq=False)
class CacheCollector(Collector):
    """Reads what the cache and the queue tell about themselves."""

    _cache: ManagedCache
    _jobs: ManagedJobs
    _node: NodeFacts

    def collect(self) -> Iterator[Metric]:
        status = self._cache.status()
        build = GaugeMetricFamily(
            f"{_PREFIX}_build_info", "Which service this is.", labels=["version", "origin", "auth"]
        )
        build.add_metric([self._node.version, self._node.origin, self._node.auth], 1)
        yield build
        for name, known_as, what in _COUNTERS:
            yield CounterMetricFamily(f"{_PREFIX}_{known_as}", what, value=status.counters[name])
        for name, what, value in (
            ("entries", "Images in the cache, whole or in part.", status.entries),
            ("fills", "Images of which bytes are being fetched or checked.", status.fills),
            ("disk_bytes", "Bytes on disk that images take.", status.bytes_on_disk),
            ("reserved_bytes", "Bytes that were promised to fetches and are still to come.", status.reserved),
            ("quarantined_bytes", "Bytes on disk that the quarantine takes.", status.quarantined),
            ("max_size_bytes", "The most bytes that images may take.", status.max_size),
            ("min_free_bytes", "Bytes of the disk that are always left free.", status.min_free),
            ("disk_free_bytes", "Bytes that were free on the disk at the last look.", status.disk_free),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", what, value=value)
        jobs = GaugeMetricFamily(f"{_PREFIX}_jobs", "Prefetches and verifications.", labels=["state"])
        for state in (JobState.QUEUED, JobState.RUNNING):
            jobs.add_metric([state.value], self._jobs.count(state=state))
        yield jobs


def process_metrics(registry: CollectorRegistry) -> None:
    """Have the process itself measured too: CPU, memory, descriptors, garbage collection."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """All measurements in the form that the ``Accept`` field asks for, and its media type."""
    encode, kind = choose_encoder(accept)
    return encode(registry), kind
