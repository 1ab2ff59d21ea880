"""Keystone's word about a token, asked for in the token's own name.

Any user may have their own token validated, so this needs no account of its own. Knows nothing of requests
and remembers nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any, Protocol

import treq
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txglancecache.management.access.authenticate import CannotTell, KeystoneUser, NotAuthenticated

_log = Logger()

#: Without the catalog a token's description has a few kilobytes.
_LARGEST = 2**18
#: Seconds that Keystone may take to answer.
_PATIENCE = 10.0
_REFUSALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND})


class HTTPClient(Protocol):
    """What this module needs of treq."""

    @property
    def get(self) -> Callable[..., Deferred[Any]]: ...


@define(eq=False)
class Keystone:
    """One Keystone.

    :param url: its public address, with or without ``/v3``.
    :param wall: the time of day, in seconds since the epoch.
    """

    _http: HTTPClient
    _clock: IReactorTime
    url: str
    _wall: Callable[[], float] = field(default=time.time, repr=False)
    _location: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        # With the catalog the answer is many times as long.
        self._location = f"{self.url.removesuffix('/v3')}/v3/auth/tokens?nocatalog"

    async def validate(self, token: bytes) -> KeystoneUser:
        """Whose token it is.

        :raises NotAuthenticated: it is no valid token.
        :raises CannotTell: Keystone does not say.
        """
        exchange = Deferred.fromCoroutine(self._ask(token)).addTimeout(_PATIENCE, self._clock)
        try:
            status, body = await exchange
        except CancelledError:
            raise
        except Exception as error:
            # An HTTP client's error names the server and the trouble, never what was sent.
            _log.error("{url} cannot be asked about a token: {error!r}", url=self.url, error=error)
            raise CannotTell("Keystone does not answer") from None
        if status in _REFUSALS:
            raise NotAuthenticated("Keystone does not accept this token", tried=True)
        if status != HTTPStatus.OK:
            _log.error("{url} answers {status} when asked about a token", url=self.url, status=status)
            raise CannotTell("Keystone cannot validate tokens at present")
        try:
            user = parse(body, token)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            _log.error("{url} says what is no token: {kind}", url=self.url, kind=type(error).__name__)
            raise CannotTell("Keystone's answer makes no sense") from None
        if user.expires <= self._wall():
            raise NotAuthenticated("this token has expired", tried=True)
        return user

    async def _ask(self, token: bytes) -> tuple[int, bytes]:
        # A redirect would take the token to somebody else.
        response = await self._http.get(
            self._location,
            headers={b"X-Auth-Token": token, b"X-Subject-Token": token, b"Accept": b"application/json"},
            allow_redirects=False,
            unbuffered=True,
        )
        body = bytearray()

        def collect(data: bytes) -> None:
            body.extend(data)
            if len(body) > _LARGEST:
                raise ValueError("the answer is too long")

        await treq.collect(response, collect)
        return response.code, bytes(body)


def parse(body: bytes, token: bytes) -> KeystoneUser:
    """The user that Keystone's description of a token is about; any of the usual errors if it is none."""
    described: dict[str, Any] = json.loads(body)["token"]
    user = described["user"]
    project = described.get("project") or {}
    domain = described.get("domain") or {}
    return KeystoneUser(
        headers=((b"X-Auth-Token", token),),
        user=str(user["name"]),
        project=project.get("name"),
        roles=tuple(str(role["name"]).lower() for role in described.get("roles", ())),
        expires=datetime.fromisoformat(described["expires_at"]).timestamp(),
        attributes={
            "user_id": str(user["id"]),
            "user_domain_id": user.get("domain", {}).get("id"),
            "project_id": project.get("id"),
            "project_domain_id": project.get("domain", {}).get("id"),
            "domain_id": domain.get("id"),
            "system_scope": "all" if (described.get("system") or {}).get("all") else None,
            "is_admin_project": described.get("is_admin_project", True),
        },
    )
