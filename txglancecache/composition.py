"""A node put together from its parts: the only module that knows all of them.

It takes what the process is given, the reactor among it, and begins nothing.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from prometheus_client import CollectorRegistry
from twisted.web.resource import IResource

from txglancecache import __version__
from txglancecache.cache.cache import Cache, CacheSettings, Threads
from txglancecache.cache.chores import Chores
from txglancecache.cache.entry import DigestCheck
from txglancecache.cache.fill import FillSettings
from txglancecache.cache.jobs import Jobs, JobSettings
from txglancecache.cache.steward import Steward
from txglancecache.clients.identity import any_of
from txglancecache.clients.limits import Limits
from txglancecache.clients.refusals import Refusals
from txglancecache.clients.turnstile import Turnstile
from txglancecache.delivery.delivery import Delivery
from txglancecache.eviction import S3Fifo
from txglancecache.management.access.admission import Admission, AdmissionSettings
from txglancecache.management.access.guard import Guard
from txglancecache.management.compatible.api import compatible_resource
from txglancecache.management.compatible.forward import Forward
from txglancecache.management.compatible.paths import Normalized, is_for_cache, is_for_glance
from txglancecache.management.managed import NodeFacts
from txglancecache.management.metrics import (
    CacheCollector,
    ClientMetrics,
    DownloadMetrics,
    LagMeter,
    OriginMetrics,
    exposition,
    process_metrics,
)
from txglancecache.management.native.api import NativeAPI
from txglancecache.management.native.health import Doctor, disk_check, origin_check, room_check
from txglancecache.management.native.prefetching import Permission
from txglancecache.management.native.streams import Streams
from txglancecache.management.page import Page
from txglancecache.management.site import Part, Parts, management_resource, management_site
from txglancecache.origin.client import OriginClient, OriginURL
from txglancecache.origin.glance import Glance
from txglancecache.origin.observer import OriginObserver
from txglancecache.proxy.app import DataApp
from txglancecache.proxy.authorization import Authorizer
from txglancecache.proxy.clearance import Clearance
from txglancecache.proxy.images import Images
from txglancecache.proxy.passthrough import PassThrough
from txglancecache.proxy.site import data_site
from txglancecache.service.certificates import read_certificates, tls_towards, trust
from txglancecache.service.config import Settings
from txglancecache.service.descriptors import affordable, raise_limit
from txglancecache.service.draining import Connections
from txglancecache.service.listening import Inet, Inherited, Listener, listener
from txglancecache.service.node import Node
from txglancecache.service.process import (
    access_line,
    give_up,
    here_to_stay,
    starved,
    tell_supervisor,
)
from txglancecache.service.service_auth import ServiceCredentials, service_session
from txglancecache.service.takeover import take_over
from txglancecache.service.threads import Pools
from txglancecache.store.directory import Directory
from txglancecache.store.index import Index
from txglancecache.waiting import Semaphore


def listeners(settings: Settings, reactor: Any) -> tuple[Listener, Listener]:
    """Where the two sites listen.

    :raises ConfigurationError: there is no way to, or the management site's callers would not be known.
    """
    data = listener(reactor, settings.listen)
    match settings.manage_auth:
        case "certificate":
            authorities = [certificate.original for certificate in read_certificates(settings.manage_ca_file)]
            manage = listener(reactor, settings.manage, authorities)
            manage.refuse_if_plain()
        case "keystone":
            manage = listener(reactor, settings.manage)
        case _:
            manage = listener(reactor, settings.manage)
            manage.refuse_if_public()
    data.refuse_to_share(manage)
    return data, manage


def guard_for(manage: Listener, auth: str = "none") -> Guard:
    """What a browser must not be tricked into. A site that knows its callers may go by any name."""
    match manage.place:
        case _ if auth != "none":
            return Guard(None)
        case Inet(host=host):
            return Guard(frozenset({host.lower()}))
        case Inherited(family=socket.AF_INET | socket.AF_INET6):
            return Guard()
        case _:
            return Guard(None)


def _client(settings: Settings, reactor: Any, observer: OriginObserver) -> OriginClient:
    origin = OriginURL.parse(settings.origin)
    tls = None
    if origin.scheme == "https":
        tls = tls_towards(
            origin.host, settings.origin_ca_file, settings.origin_cert_file, settings.origin_key_file
        )
    return OriginClient(
        reactor,
        origin,
        connect_timeout=settings.origin_connect_timeout,
        response_timeout=settings.origin_timeout,
        max_connections=settings.origin_connections,
        min_rate=settings.origin_min_rate,
        tls_options=tls,
        observer=observer,
    )


def _admission(settings: Settings, reactor: Any, pools: Pools) -> Admission:
    return Admission(
        AdmissionSettings(
            auth=settings.manage_auth,
            keystone_url=settings.keystone_url,
            keystone_ttl=settings.keystone_ttl,
            trust=trust(settings.keystone_ca_file),
            operators=settings.manage_subjects or (),
            policy_file=settings.policy_file,
        ),
        reactor,
        pools.disk,
    )


def _cache(settings: Settings, reactor: Any, directory: Directory, index: Index, pools: Pools) -> Cache:
    check = DigestCheck(settings.digest_check)
    hashing = pools.hash if check is DigestCheck.BEFORE else pools.audit
    return Cache(
        settings.origin,
        directory,
        index,
        reactor,
        Threads(disk=pools.disk, fill=pools.fill, hash=hashing),
        S3Fifo(),
        CacheSettings(
            max_size=settings.max_size,
            min_free=settings.min_free,
            max_entries=settings.max_entries,
            digest_check=check,
            fill=FillSettings(
                retries=settings.fill_retries,
                finish=settings.finish_fills,
                silence=settings.origin_timeout,
                min_rate=settings.origin_min_rate,
            ),
        ),
    )


@frozen(eq=False)
class _Core:
    """What both sites stand on."""

    settings: Settings
    reactor: Any
    registry: CollectorRegistry
    pools: Pools
    client: OriginClient
    glance: Glance
    directory: Directory
    cache: Cache
    steward: Steward
    jobs: Jobs

    @classmethod
    def of(
        cls,
        settings: Settings,
        reactor: Any,
        directory: Directory,
        client: OriginClient,
        registry: CollectorRegistry,
    ) -> _Core:
        pools = Pools(reactor)
        glance = Glance(client, reactor)
        index = Index(directory.index_path, reactor, pools.index)
        cache = _cache(settings, reactor, directory, index, pools)
        steward = Steward(cache, directory, index, pools.disk, pools.audit)
        account = ServiceCredentials(service_session(settings.config_files), pools.account)
        chores = Chores(cache, steward, glance, client, account)
        job_settings = JobSettings(settings.jobs_at_once, settings.job_attempts)
        jobs = Jobs(chores, index, cache.events, reactor, job_settings, time.time)
        return cls(settings, reactor, registry, pools, client, glance, directory, cache, steward, jobs)

    def load(self) -> None:
        """Take up what an earlier process has left; blocks."""
        self.cache.load()
        self.jobs.load()

    def start(self) -> None:
        self.cache.start()
        self.jobs.start()

    async def close(self) -> None:
        try:
            await self.jobs.stop()
            await self.cache.close()
        finally:
            await self.client.close()
            self.pools.stop()


def _downloads(core: _Core) -> IResource:
    """The data site's application."""
    settings, reactor, name = core.settings, core.reactor, _pseudonym()
    pass_through = PassThrough(core.client, pseudonym=name, trusted=any_of(settings.trusted_proxies))
    clearance = Clearance(
        core.cache,
        core.glance,
        Authorizer(core.glance, reactor, settings.authorization_ttl),
        reactor,
        settings.revalidate_after,
    )
    delivery = Delivery(reactor, core.pools.disk, settings.stall_timeout)
    observer = DownloadMetrics(core.registry)
    lanes = Semaphore(max(1, settings.origin_connections // 2))
    images = Images(
        core.cache, clearance, core.client, pass_through, delivery, reactor, name, observer, lanes=lanes
    )
    return DataApp(core.cache, images, pass_through).resource()


def _native(core: _Core, streams: Streams) -> IResource:
    """The management site's own application."""
    settings, reactor = core.settings, core.reactor
    facts = NodeFacts(
        socket.gethostname(), __version__, settings.origin, reactor.seconds(), settings.manage_auth
    )
    core.registry.register(CacheCollector(core.steward, core.jobs, facts))
    checks = {
        "origin": origin_check(core.client),
        "disk": disk_check(core.directory.path, core.pools.disk),
        "room": room_check(core.steward.status),
    }
    return NativeAPI(
        facts,
        core.steward,
        core.jobs,
        Permission(core.glance, core.client.origin.netloc),
        Doctor(checks, reactor),
        streams,
        partial(exposition, core.registry),
        reactor,
    ).resource()


def _turnstiles(settings: Settings, reactor: Any, registry: CollectorRegistry) -> dict[str, Turnstile]:
    """Who may come in, by site."""
    manage = settings.manage_connections
    data = affordable(raise_limit(), settings.max_connections, manage, settings.origin_connections)
    limits = Limits(
        connections=data,
        requests_per_client=settings.max_requests_per_client,
        line_size=settings.max_line_size,
        head_size=settings.max_head_size,
        head_fields=settings.max_head_fields,
        head_timeout=settings.head_timeout,
        idle_timeout=settings.idle_timeout,
        body_timeout=settings.body_timeout,
        stall_timeout=settings.stall_timeout,
        min_rate=settings.min_rate,
    )
    # No one client may keep the others from managing this node.
    share = min(limits.requests_per_client, max(1, manage * 3 // 4))
    metrics = ClientMetrics(registry)
    found = {
        site: Turnstile(its, Refusals(site, reactor, metrics), reactor)
        for site, its in (
            ("data", limits),
            ("management", evolve(limits, connections=manage, requests_per_client=share)),
        )
    }
    for site, turnstile in found.items():
        metrics.watch(site, partial(getattr, turnstile, "connections"))
    return found


def _pseudonym() -> bytes:
    """This node's name as a token, for Via and Cache-Status."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).encode("ascii")


def compose(settings: Settings, reactor: Any, owner: Callable[[], AbstractContextManager[None]]) -> Node:
    """A node made of its parts, none of which has begun to work.

    :param owner: within this is made what has to belong to whom the process is going to become.
    :raises GlanceCacheError: in one line, when it could not begin.
    """
    data, manage = listeners(settings, reactor)
    registry = CollectorRegistry()
    process_metrics(registry)
    client = _client(settings, reactor, OriginMetrics(registry))
    with owner():
        directory = take_over(Path(settings.cache_dir), settings.takeover_wait)
    data.refuse_if_in_use()
    manage.refuse_if_in_use()

    core = _Core.of(settings, reactor, directory, client, registry)
    admission = _admission(settings, reactor, core.pools)
    lag = LagMeter(registry, reactor, starved)
    streams = Streams(core.cache.events, reactor)
    page = Page()
    forward = Forward(client, pseudonym=_pseudonym(), trusted=any_of(settings.trusted_proxies))
    compatible = compatible_resource(core.steward, core.jobs, core.glance, forward, core.cache.batches)
    data_app = _downloads(core)
    if settings.cache_api_on_data_site:
        data_app = Parts([Part(is_for_cache, Normalized(admission.gate(compatible)))], data_app)
    gates = _turnstiles(settings, reactor, registry)
    common: dict[str, Any] = {
        "reactor": reactor,
        "is_trusted": any_of(settings.trusted_proxies),
        "access_line": access_line if settings.access_log else None,
    }
    data_factory = data_site(data_app, turnstile=gates["data"], **common)
    manage_factory = management_site(
        management_resource(
            _native(core, streams),
            guard_for(manage, settings.manage_auth),
            parts=[Part(page.claims, page), Part(is_for_glance, compatible)],
            admit=lambda inner: Normalized(admission.gate(inner)),
        ),
        turnstile=gates["management"],
        **common,
    )
    connections = Connections()
    connections.before_draining(streams.close)
    connections.watch(data_factory)
    connections.watch(manage_factory)

    def prepare() -> None:
        core.pools.start()
        with owner(), here_to_stay():
            core.load()

    def begin() -> None:
        core.start()
        admission.start()
        lag.start()
        tell_supervisor("READY=1")

    async def end() -> None:
        lag.stop()
        try:
            await admission.stop()
        finally:
            await core.close()

    return Node(
        clock=reactor,
        sites=[(data, data_factory), (manage, manage_factory)],
        connections=connections,
        grace=settings.shutdown_grace,
        prepare=prepare,
        begin=begin,
        end=end,
        failed=partial(give_up, reactor),
    )
