"""The origin as a function: a request in, a response out.

Owns where the origin is and how it is reached, and when a request may be sent twice. What the client
sends and gets is left alone but for its framing.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import urlsplit

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer

from txglancecache.errors import OriginError, OriginTimeout, OriginUnreachable
from txglancecache.headers import RawHeaders
from txglancecache.origin.connection import OriginConnection
from txglancecache.origin.exchange import Exchange, StaleConnection, framed_request
from txglancecache.origin.framing import Head
from txglancecache.origin.observer import OriginObserver, Unobserved
from txglancecache.origin.pool import Pool
from txglancecache.origin.response import Detached, Response
from txglancecache.origin.tls import in_words

__all__ = ["Detached", "Head", "OriginClient", "OriginURL", "Response"]

_PORTS = {"http": 80, "https": 443}

#: RFC 9110 section 9.2.2.
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})


@frozen
class OriginURL:
    """Where the origin is: scheme, host and port, and nothing else."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> OriginURL:
        """
        :raises ValueError: for anything but ``http://host[:port]`` and ``https://host[:port]``.
        """
        parts = urlsplit(text)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{text!r} is not an http:// or https:// URL of a host")
        if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(f"{text!r} has more than a scheme, a host and a port")
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        return cls(parts.scheme, parts.hostname, port)

    @property
    def netloc(self) -> bytes:
        """The ``Host`` of a request to it."""
        host = b"[%s]" % self.host.encode("ascii") if ":" in self.host else self.host.encode("idna")
        return host if self.port == _PORTS[self.scheme] else b"%s:%d" % (host, self.port)


@define(eq=False, slots=False)
class _Connecting(Factory):
    noisy = False  # a line in the log for each connection helps nobody

    _build: Callable[[], OriginConnection]

    def buildProtocol(self, addr: IAddress | None) -> OriginConnection:
        return self._build()


@define(eq=False)
class OriginClient:
    """An HTTP/1.1 client of one origin, with a pool of kept connections.

    ``reactor`` is what `HostnameEndpoint` needs. ``connect_timeout`` covers name, connection and TLS, and
    how long a request waits for one of ``max_connections``. ``response_timeout`` is how long the origin may
    take for a head, and how long it may say nothing of a body, while it is its turn; it has to send a body
    at ``min_rate`` bytes a second. A connection is kept idle for ``keep_alive`` seconds.
    """

    _reactor: Any  # IReactorCore, IReactorTCP and IReactorTime in one; there is no interface for that
    origin: OriginURL
    _connect_timeout: float = field(kw_only=True)
    _response_timeout: float = field(kw_only=True)
    _min_rate: float = field(default=0.0, kw_only=True)
    _max_connections: int = field(kw_only=True)
    _keep_alive: float = field(default=15.0, kw_only=True)
    _tls_options: IOpenSSLClientConnectionCreator | None = field(default=None, kw_only=True)
    _observer: OriginObserver = field(factory=Unobserved, kw_only=True)
    _pool: Pool = field(init=False)
    _endpoint: IStreamClientEndpoint = field(init=False)

    def __attrs_post_init__(self) -> None:
        origin = self.origin
        self._endpoint = _endpoint(self._reactor, origin, self._connect_timeout)
        if origin.scheme == "https":
            options = self._tls_options or optionsForClientTLS(origin.host)
            self._endpoint = wrapClientTLS(options, self._endpoint)
        self._pool = Pool(
            self._reactor,
            self._connect,
            limit=self._max_connections,
            patience=self._connect_timeout,
            keep_alive=self._keep_alive,
        )

    async def request(
        self,
        method: bytes,
        target: bytes,
        headers: RawHeaders,
        body: IBodyProducer | None = None,
        *,
        on_interim: Callable[[Head], None] | None = None,
    ) -> Response:
        """Sends a request and returns once the final head of its answer is in; 1xx go to ``on_interim``.

        ``headers`` are sent as they are, ``Host`` included, but for the framing, which follows ``body``. A
        request that can be repeated is, once, when a kept connection turns out to be closed; any other gets
        a new connection, because nobody could tell whether the origin acted on it.

        :raises OriginError: when there is no answer.
        :raises RequestBodyBroken: when ``body`` fails; the origin then sees a broken connection.
        """
        began = self._reactor.seconds()
        try:
            response = await self._request(method, target, headers, body, on_interim)
        except OriginError as error:
            self._observer.failed(error)
            raise
        self._observer.answered(method, response.head.status, self._reactor.seconds() - began)
        return response

    async def _request(
        self,
        method: bytes,
        target: bytes,
        headers: RawHeaders,
        body: IBodyProducer | None,
        on_interim: Callable[[Head], None] | None,
    ) -> Response:
        request = framed_request(method, target, headers, body)
        repeatable = body is None and method in _IDEMPOTENT
        if repeatable:
            connection = await self._pool.acquire(fresh=False)
            try:
                return await Exchange(connection, request, on_interim).begin(None)
            except StaleConnection:
                pass
        connection = await self._pool.acquire(fresh=True)
        return await Exchange(connection, request, on_interim).begin(body)

    async def close(self) -> None:
        """Aborts everything under way and closes all connections."""
        await self._pool.close()

    def _connect(self) -> Deferred[OriginConnection]:
        attempt = ensureDeferred(self._connected())
        attempt.addTimeout(self._connect_timeout, self._reactor, self._out_of_time)
        return attempt

    async def _connected(self) -> OriginConnection:
        try:
            connection = await _cancellable(self._endpoint.connect(_Connecting(self._build)))
        except CancelledError:
            raise
        except ConnectTimeout:
            self._out_of_time(None, self._connect_timeout)
        except Exception as error:
            raise OriginUnreachable(f"no connection to the origin: {error}") from error
        if self.origin.scheme == "https":
            await self._secured(connection)
        return connection

    async def _secured(self, connection: OriginConnection) -> None:
        try:
            await connection.secured()
        except CancelledError:
            connection.abort()
            raise
        except Exception as error:
            raise OriginUnreachable(f"no TLS with the origin: {in_words(error) or error}") from error

    def _build(self) -> OriginConnection:
        return OriginConnection(
            self._reactor, self._response_timeout, self._pool.released, self._pool.gone, self._min_rate
        )

    def _out_of_time(self, result: object, seconds: float) -> NoReturn:
        raise OriginTimeout(f"no connection to the origin within {seconds:g} s")


def _endpoint(reactor: Any, origin: OriginURL, timeout: float) -> IStreamClientEndpoint:
    """Where to connect to. A name is looked up in a thread for each connection; an address need not be."""
    kinds: dict[int, Any] = {4: TCP4ClientEndpoint, 6: TCP6ClientEndpoint}
    try:
        kind = kinds[ip_address(origin.host).version]
    except ValueError:
        # That one takes no name with an underscore, and containers are often called so. The other, which asks
        # for IPv4 addresses only, takes any.
        kind = TCP4ClientEndpoint if "_" in origin.host else HostnameEndpoint
    endpoint: IStreamClientEndpoint = kind(reactor, origin.host, origin.port, timeout)
    return endpoint


def _cancellable(connecting: Deferred[IProtocol]) -> Deferred[OriginConnection]:
    """The connection; fails with `CancelledError` when it is cancelled, as not every endpoint does."""
    cancelled = False

    def cancel(_: object) -> None:
        nonlocal cancelled
        cancelled = True
        connecting.cancel()

    def connected(connection: Any) -> None:
        if cancelled:
            connection.abort()
        else:
            outcome.callback(connection)

    def failed(failure: Failure) -> None:
        if not cancelled:
            outcome.errback(failure)

    outcome: Deferred[OriginConnection] = Deferred(cancel)
    connecting.addCallbacks(connected, failed)
    return outcome
