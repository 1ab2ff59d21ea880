"""Callers known by their Keystone tokens, each token validated once in a while.

Only a valid token is remembered, under a keyed digest of it; what is kept of the token itself is in its
caller, for as long. Equal questions that come while one is being asked share its answer.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from txglancecache.management.access.authenticate import Caller, CannotTell, KeystoneUser, NotAuthenticated
from txglancecache.management.access.keystone import Keystone
from txglancecache.waiting import Outcome

_MOST_KEPT = 1024
#: Tokens that Keystone is asked about at once.
_MOST_ASKED = 32
#: The most bytes that any kind of token has had.
_LONGEST = 8192


@frozen
class _Known:
    user: KeystoneUser
    until: float


@define(eq=False)
class ByToken:
    """By the token in ``X-Auth-Token``.

    :param ttl: seconds for which Keystone's word holds; 0: for one request.
    :param wall: the time of day, in seconds since the epoch.
    """

    _keystone: Keystone
    _clock: IReactorTime
    _ttl: float
    _wall: Callable[[], float] = field(default=time.time, repr=False)
    _secret: bytes = field(factory=lambda: secrets.token_bytes(32), init=False, repr=False)
    _known: OrderedDict[bytes, _Known] = field(factory=OrderedDict, init=False, repr=False)
    _asking: dict[bytes, Outcome[KeystoneUser]] = field(factory=dict, init=False)

    @property
    def challenge(self) -> str:
        return f'Keystone uri="{self._keystone.url}"'

    def recall(self, request: IRequest) -> Caller | None:
        try:
            key = self._key(_token(request))
        except NotAuthenticated:
            return None
        known = self._known.get(key)
        if known is None:
            return None
        if known.until <= self._clock.seconds():
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return known.user

    async def identify(self, request: IRequest) -> Caller:
        token = _token(request)
        key = self._key(token)
        asking = self._asking.get(key)
        if asking is None:
            if len(self._asking) >= _MOST_ASKED:
                raise CannotTell("too many tokens are being validated")
            answer = Deferred.fromCoroutine(self._ask(key, token))
            asking = self._asking[key] = Outcome.of(answer)
            if asking.settled:
                self._asking.pop(key, None)
        return await asking.wait()

    async def _ask(self, key: bytes, token: bytes) -> KeystoneUser:
        try:
            user = await self._keystone.validate(token)
        finally:
            self._asking.pop(key, None)
        until = self._clock.seconds() + min(self._ttl, user.expires - self._wall())
        self._known[key] = _Known(user, until)
        self._known.move_to_end(key)
        while len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)
        return user

    def _key(self, token: bytes) -> bytes:
        return hmac.digest(self._secret, token, "sha256")


def _token(request: IRequest) -> bytes:
    tokens = request.requestHeaders.getRawHeaders(b"X-Auth-Token", [])
    if not tokens:
        raise NotAuthenticated("this site wants a token from Keystone in X-Auth-Token")
    token = bytes(tokens[0])
    if len(tokens) != 1 or not 0 < len(token) <= _LONGEST:
        raise NotAuthenticated("a request has one token", tried=True)
    return token
