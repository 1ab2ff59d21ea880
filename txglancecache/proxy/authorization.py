"""For how long the origin's word that a client may have an image holds.

Only permission is ever used again, never a denial, and never for longer than the configured time. No token
is kept: questions are told apart by a keyed digest of all the fields that might matter to the origin.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from functools import partial

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from txglancecache.headers import RawHeaders, without
from txglancecache.origin.glance import Allowed, Glance, Verdict
from txglancecache.waiting import Shared

#: Fields that say nothing about who asks or for what. Any other makes for another question.
_NEUTRAL = (
    b"accept",
    b"accept-encoding",
    b"accept-language",
    b"cache-control",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"pragma",
    b"range",
    b"traceparent",
    b"tracestate",
    b"user-agent",
    b"via",
    b"x-openstack-request-id",
)
_MOST_KEPT = 65_536


@frozen
class _Question:
    image_id: str
    size: int | None
    asker: bytes


@define(eq=False)
class Authorizer:
    """Asks the origin whether a client may download an image, unless it has just said so.

    :param ttl: seconds for which a permission may be used again; 0: never.
    """

    _glance: Glance
    _clock: IReactorTime
    _ttl: float
    _secret: bytes = field(factory=lambda: secrets.token_bytes(32), init=False, repr=False)
    _permissions: OrderedDict[_Question, Allowed] = field(factory=OrderedDict, init=False)
    _asking: Shared[_Question, Verdict] = field(factory=Shared, init=False)

    async def check(self, image_id: str, target: bytes, headers: RawHeaders, size: int | None) -> Verdict:
        """The origin's verdict; equal questions that come while one is being asked share its answer.

        :param target: the request target of the download.
        :param headers: the client's end-to-end fields.
        :param size: the length that the body is expected to have, in bytes; None: any.
        :raises OriginError: the origin could not be asked.
        """
        question = self._question(image_id, target, headers, size)
        known = self._holding(question)
        if known is not None:
            return known
        return await self._asking.ask(question, partial(self._ask, question, target, headers))

    def known(self, image_id: str, target: bytes, headers: RawHeaders, size: int) -> Allowed | None:
        """The origin's permission, if it holds still."""
        return self._holding(self._question(image_id, target, headers, size))

    def _holding(self, question: _Question) -> Allowed | None:
        known = self._permissions.get(question)
        return known if known is not None and self._clock.seconds() - known.since < self._ttl else None

    def identified(self, image_id: str, target: bytes, headers: RawHeaders, size: int) -> None:
        """What this client was allowed when nobody knew the size has been found to have this one."""
        permission = self._permissions.pop(self._question(image_id, target, headers, None), None)
        if permission is not None:
            self._keep(self._question(image_id, target, headers, size), permission)

    def forget(self, image_id: str, target: bytes, headers: RawHeaders, size: int) -> bool:
        """Whether this very client has been allowed this image before, however long ago. From now on: no."""
        return self._permissions.pop(self._question(image_id, target, headers, size), None) is not None

    def asker(self, target: bytes, headers: RawHeaders) -> bytes:
        """Who asks for what, without a token in it: equal only where the origin answers the same."""
        return self._question("", target, headers, None).asker

    async def _ask(self, question: _Question, target: bytes, headers: RawHeaders) -> Verdict:
        verdict = await self._glance.authorize(target, headers, question.size)
        if isinstance(verdict, Allowed):
            self._keep(question, verdict)
        return verdict

    def _keep(self, question: _Question, permission: Allowed) -> None:
        self._permissions[question] = permission
        self._permissions.move_to_end(question)
        while len(self._permissions) > _MOST_KEPT:
            self._permissions.popitem(last=False)

    def _question(self, image_id: str, target: bytes, headers: RawHeaders, size: int | None) -> _Question:
        parts = [target]
        for pair in without(headers, *_NEUTRAL):
            parts += pair
        lengths = b"%a" % [*map(len, parts)]  # so that it can be told where each of them ends
        return _Question(image_id, size, hmac.digest(self._secret, b"".join([lengths, *parts]), "sha256"))
