"""A data site on real sockets, in front of an origin that does what the test wants."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.python.threadpool import ThreadPool
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txglancecache.cache.cache import Cache, CacheSettings, Threads
from txglancecache.cache.fill import FillSettings
from txglancecache.cache.steward import Steward
from txglancecache.delivery.delivery import Delivery
from txglancecache.eviction import S3Fifo
from txglancecache.origin.client import OriginClient, OriginURL
from txglancecache.origin.glance import Glance
from txglancecache.proxy.app import DataApp
from txglancecache.proxy.authorization import Authorizer
from txglancecache.proxy.clearance import Clearance
from txglancecache.proxy.images import Images
from txglancecache.proxy.observer import DownloadObserver, Unobserved
from txglancecache.proxy.passthrough import PassThrough
from txglancecache.proxy.site import data_site
from txglancecache.store.directory import Directory
from txglancecache.store.index import Index
from txglancecache.waiting import Semaphore


@define(eq=False)
class Stored:
    """One image of the origin."""

    body: bytes
    tokens: set[str] = field(factory=lambda: {"alice"})
    ranged: bool = True
    status: str = "active"
    digest: str | None = None
    sends: Callable[[bytes], bytes] = lambda body: body
    fails: int | None = None
    #: After how many bytes the connections of the next answers with data break, one each.
    breaks: list[int] = field(factory=list)

    def describe(self, image_id: str) -> dict[str, object]:
        return {
            "id": image_id,
            "status": self.status,
            "size": len(self.body),
            "checksum": hashlib.md5(self.body, usedforsecurity=False).hexdigest(),
            "os_hash_algo": "sha256",
            "os_hash_value": self.digest or hashlib.sha256(self.body).hexdigest(),
        }


class Origin(Resource):
    """Speaks as much of Glance's API as downloads need, and notes what it was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[str, Stored] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.versions = ["v2.9", "v2.15"]
        self.slow: Deferred[None] | None = None
        self.expired: set[str] = set()

    def render(self, request: Request) -> Any:
        path, method = request.path.decode(), request.method.decode()
        self.asked.append((method, path, request.getHeader("range")))
        request.setHeader(b"x-openstack-request-id", b"req-%d" % len(self.asked))
        if path == "/versions":
            return json.dumps({"versions": [{"id": name} for name in self.versions]}).encode()
        match = re.fullmatch(r"/v2(?:\.\d+)?/images/([^/]+)(/file)?", path)
        image = self.images.get(match[1]) if match else None
        if request.getHeader("x-auth-token") in self.expired:
            request.setResponseCode(401)
            return b"who are you?"
        if match is None or image is None or request.getHeader("x-auth-token") not in image.tokens:
            request.setResponseCode(404)
            return b"no such image"
        if method == "DELETE":
            del self.images[match[1]]
            request.setResponseCode(204)
            return b""
        if not match[2]:
            return json.dumps(image.describe(match[1])).encode()
        return self._body(request, image)

    def _body(self, request: Request, image: Stored) -> Any:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.getHeader("range") or "")
        size = len(image.body)
        if wanted and int(wanted[1]) >= size:
            request.setResponseCode(416)
            return b""
        if image.fails is not None:
            request.setResponseCode(image.fails)
            return b"failed"
        if wanted and not image.ranged:
            request.setResponseCode(400)
            return b"Getting images randomly from this store is not supported"
        body = image.sends(image.body)
        if wanted:
            start, stop = int(wanted[1]), min(size, int(wanted[2] or size) + 1)
            request.setResponseCode(206)
            request.setHeader(b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, size))
            body = body[start:stop]
        request.setHeader(b"content-length", b"%d" % len(body))
        if image.breaks:
            request.write(body[: image.breaks.pop(0)])
            transport = request.channel.transport
            transport.unregisterProducer()  # it would be resumed, and never closed
            transport.loseConnection()
            return NOT_DONE_YET
        if self.slow is None:
            return body
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(_: None) -> None:
            if not gone:
                request.write(body)
                request.finish()

        self.slow.addCallback(answer)
        return NOT_DONE_YET

    def transfers(self) -> list[str | None]:
        """The ranges of all requests for data, leaving out the checks."""
        return [
            wanted
            for method, path, wanted in self.asked
            if path.endswith("/file") and not re.fullmatch(r"bytes=\d+-", wanted or "")
        ]


class _OriginSite(Site):
    """What the origin logs is its own business."""

    def log(self, request: Request) -> None:
        pass


@define
class Got:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes


@define(eq=False)
class Rig:
    """Everything from the client's socket to the origin's."""

    path: Path
    ttl: float = 0.0
    revalidate_after: float = 300.0
    max_size: int = 1 << 30
    connections: int = 50
    origin: Origin = field(factory=Origin)
    observer: DownloadObserver = field(factory=Unobserved)
    cache: Cache = field(init=False)
    index: Index = field(init=False)
    steward: Steward = field(init=False)
    client: OriginClient = field(init=False)
    _clients: Any = field(init=False)
    _pools: list[ThreadPool] = field(factory=list, init=False)
    _ports: list[IListeningPort] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._ports.append(reactor.listenTCP(0, _OriginSite(self.origin), interface="127.0.0.1"))
        url = f"http://127.0.0.1:{self._ports[0].getHost().port}"
        self.client = OriginClient(
            reactor,
            OriginURL.parse(url),
            connect_timeout=20,
            response_timeout=20,
            max_connections=self.connections,
        )
        index, disk, fill, digest, self._clients = map(self._pool, (1, 4, 16, 2, 20))
        directory = Directory.open(self.path)
        self.index = rows = Index(directory.index_path, reactor, index)
        self.cache = Cache(
            url,
            directory,
            rows,
            reactor,
            Threads(disk, fill, digest),
            S3Fifo(),
            CacheSettings(self.max_size, 0, fill=FillSettings(retries=1, silence=20)),
        )
        self.steward = Steward(self.cache, directory, rows, disk, digest)
        self.cache.load()
        self.cache.start()
        through = PassThrough(self.client, pseudonym=b"node", trusted=lambda _: False)
        glance = Glance(self.client, reactor)
        authorizer = Authorizer(glance, reactor, self.ttl)
        clearance = Clearance(self.cache, glance, authorizer, reactor, self.revalidate_after)
        delivery = Delivery(reactor, disk, 10)
        images = Images(
            self.cache,
            clearance,
            self.client,
            through,
            delivery,
            reactor,
            b"node",
            self.observer,
            lanes=Semaphore(self.connections // 2),
        )
        site = data_site(DataApp(self.cache, images, through).resource(), reactor=reactor)
        self._ports.append(reactor.listenTCP(0, site, interface="127.0.0.1"))

    def _pool(self, count: int) -> Any:
        pool = ThreadPool(0, count)
        pool.start()
        self._pools.append(pool)
        return lambda function, *args, **kwargs: threads.deferToThreadPool(
            reactor, pool, function, *args, **kwargs
        )

    def store(self, image_id: str, body: bytes, **options: Any) -> Stored:
        self.origin.images[image_id] = Stored(body, **options)
        return self.origin.images[image_id]

    def get(
        self, image_id: str, method: str = "GET", token: str = "alice", path: str = "/file", **fields: str
    ) -> Deferred[Got]:
        """What a client with a connection of its own gets; fails if the response is not whole."""
        return self.ask(method, f"/v2/images/{image_id}{path}", token, **fields)

    def ask(self, method: str, target: str, token: str = "alice", **fields: str) -> Deferred[Got]:
        """As `get`, of any target."""
        headers = {"X-Auth-Token": token, **{name.replace("_", "-"): value for name, value in fields.items()}}

        def ask() -> Got:
            connection = http.client.HTTPConnection("127.0.0.1", self._ports[1].getHost().port, timeout=60)
            try:
                connection.request(method, target, headers=headers)
                answer = connection.getresponse()
                found = {name.lower(): value for name, value in answer.getheaders()}
                return Got(answer.status, found, answer.read())
            finally:
                connection.close()

        # Not the reactor's own threads: those look up the origin's name.
        return self._clients(ask)  # type: ignore[no-any-return]

    async def stop(self) -> None:
        for port in self._ports:
            stopped = port.stopListening()
            if stopped is not None:
                await stopped
        await self.cache.close()
        await self.client.close()
        for pool in self._pools:
            await threads.deferToThread(pool.stop)
