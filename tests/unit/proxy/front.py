"""A data site of its own for each test, in front of a scripted origin, and clients made of raw bytes."""

from __future__ import annotations

import gc
from typing import Any

from attrs import define, field
from klein import Klein
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from tests.unit.scripted import Peer, Script, ScriptedServer, eventually, listen
from txglancecache.errors import OriginError, OriginTimeout, RequestBodyBroken
from txglancecache.origin.client import OriginClient, OriginURL
from txglancecache.proxy.passthrough import PassThrough
from txglancecache.proxy.site import DataRequest, DataSite, data_site


@define(eq=False)
class Front:
    """Everything between the client and the origin."""

    origin: ScriptedServer
    client: OriginClient
    pass_through: PassThrough
    site: DataSite
    port: IListeningPort
    requests: list[DataRequest] = field(factory=list)
    peers: list[Peer] = field(factory=list)
    _logged: Any = None
    events: list[dict[str, Any]] = field(factory=list)

    @classmethod
    def before(cls, *scripts: Script, **options: Any) -> Front:
        origin = listen(*scripts)
        settings = {"connect_timeout": 20.0, "response_timeout": 20.0, "max_connections": 8} | options
        client = OriginClient(reactor, OriginURL("http", "127.0.0.1", origin.number), **settings)
        pass_through = PassThrough(client, pseudonym=b"cache", trusted=lambda address: False)
        requests: list[DataRequest] = []
        site = data_site(_app(pass_through, requests).resource(), reactor=reactor)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        front = cls(origin, client, pass_through, site, port, requests)
        front._logged = capturedLogs()
        front.events = front._logged.__enter__()
        return front

    async def connect(self, kind: type[Peer] = Peer) -> Peer:
        """A client."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        peer: Peer = await connectProtocol(endpoint, kind())
        self.peers.append(peer)
        return peer

    async def ask(self, *data: bytes, kind: type[Peer] = Peer) -> Peer:
        """A client that sends this."""
        peer = await self.connect(kind)
        peer.send(*data)
        return peer

    @property
    def errors(self) -> list[Any]:
        return [event for event in self.events if event["log_level"] >= LogLevel.error]

    async def stop(self) -> None:
        """Tears all down; nothing may be left over, and nothing may have gone wrong unnoticed."""
        await self.port.stopListening()
        for peer in self.peers:
            if peer.reason is None:
                peer.reset()
                await peer.gone()
        await eventually(lambda: self.site.numPorts == 0)
        await self.client.close()
        await self.origin.stop()
        gc.collect(1)
        self._logged.__exit__(None, None, None)
        assert self.errors == []


def _app(pass_through: PassThrough, requests: list[DataRequest]) -> Klein:
    """What the proxy's application is to requests that have nothing to do with images."""
    app = Klein()

    @app.route("/v2/images/<image_id>/file", methods=["GET"])
    async def image(request: DataRequest, image_id: str) -> bytes:
        requests.append(request)
        return b"image " + image_id.encode()

    @app.route("/unread")
    async def unread(request: DataRequest) -> bytes:
        requests.append(request)
        request.setResponseCode(409)
        return b"not wanted"

    @app.route("/never")
    def never(request: DataRequest) -> Deferred[None]:
        requests.append(request)
        return Deferred()

    @app.route("/", branch=True)
    async def rest(request: DataRequest) -> None:
        requests.append(request)
        await pass_through.relay(request, cache_status=b"cache; fwd=bypass")

    @app.handle_errors(OriginError, RequestBodyBroken)
    def failed(request: DataRequest, failure: Failure) -> bytes:
        request.setResponseCode(504 if isinstance(failure.value, OriginTimeout) else 502)
        return str(failure.value).encode()

    return app
