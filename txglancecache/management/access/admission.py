"""How this site knows its callers and what it lets them do, put together from what an operator has set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from treq.client import HTTPClient
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.resource import IResource

from txglancecache.errors import ConfigurationError
from txglancecache.management.access.allowing import AllowAll, Policy
from txglancecache.management.access.authenticate import AskNobody, Authenticator, ByCertificate
from txglancecache.management.access.gate import Gate
from txglancecache.management.access.keystone import Keystone
from txglancecache.management.access.throttle import Throttle
from txglancecache.management.access.tokens import ByToken
from txglancecache.management.compatible.answers import refuse_in_kind
from txglancecache.waiting import InThread

if TYPE_CHECKING:
    from txglancecache.management.access.enforcement import PolicyFile

#: Seconds for a connection to Keystone to come about.
_CONNECT_TIMEOUT = 5.0


@frozen
class AdmissionSettings:
    """What an operator has set.

    :param auth: ``none``, ``keystone`` or ``certificate``.
    :param trust: what vouches for an https Keystone; None: the system's authorities.
    :param operators: the subjects of certificates that have the admin role.
    :param policy_file: rules in place of built-in ones.
    """

    auth: str = "none"
    keystone_url: str | None = None
    keystone_ttl: float = 10.0
    trust: Any = None
    operators: Sequence[str] = ()
    policy_file: str | None = None


@define(eq=False)
class Admission:
    """The way into the management site.

    :raises ConfigurationError: the policy file cannot be used.
    """

    _settings: AdmissionSettings
    _reactor: Any
    _in_thread: InThread
    _policy: PolicyFile | None = field(default=None, init=False)
    _pool: HTTPConnectionPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = HTTPConnectionPool(self._reactor)
        path = self._settings.policy_file
        if self._settings.auth != "none":
            # It brings much with it that a site that asks nobody does not need.
            from txglancecache.management.access.enforcement import PolicyFile

            self._policy = PolicyFile(Path(path) if path else None, self._reactor, self._in_thread)

    def gate(self, inner: IResource) -> Gate:
        """The resource with this in front of it."""
        throttle = Throttle(self._reactor.seconds)
        policy: Policy = self._policy or AllowAll()
        return Gate(inner, self._authenticator(), policy, throttle, refuse_in_kind)

    def start(self) -> None:
        """Begin to watch the policy's file."""
        if self._policy is not None:
            self._policy.start()

    async def stop(self) -> None:
        """End what has been begun."""
        if self._policy is not None:
            self._policy.stop()
        await self._pool.closeCachedConnections()

    def _authenticator(self) -> Authenticator:
        match self._settings:
            case AdmissionSettings(auth="none"):
                return AskNobody()
            case AdmissionSettings(auth="certificate", operators=operators):
                return ByCertificate(frozenset(operators))
            case AdmissionSettings(auth="keystone", keystone_url=str(url)):
                return ByToken(self._keystone(url), self._reactor, self._settings.keystone_ttl)
            case _:
                raise ConfigurationError(f"no way to know callers: {self._settings.auth}")

    def _keystone(self, url: str) -> Keystone:
        agent = Agent(
            self._reactor,
            BrowserLikePolicyForHTTPS(self._settings.trust),
            connectTimeout=_CONNECT_TIMEOUT,
            pool=self._pool,
        )
        return Keystone(HTTPClient(agent), self._reactor, url)
