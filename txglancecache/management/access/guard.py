"""What a browser must not be tricked into.

The management site asks nobody for a password, because only this machine reaches it. A browser on this
machine does too, and runs other people's pages: one whose name was re-pointed at this address shows
itself by the ``Host`` it asks for, one that posts across sites by ``Origin`` or ``Sec-Fetch-Site``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from attrs import frozen

_SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_OWN_SITE = frozenset({b"same-origin", b"none"})


@frozen
class Refusal:
    """Why a request is not answered."""

    status: HTTPStatus
    message: str


@frozen
class Guard:
    """Tells what to refuse.

    :param names: names that this site goes by, beside the loopback ones. None: by any, since no browser
        can reach it (a unix socket).
    """

    names: frozenset[str] | None = frozenset()

    def refusal(
        self,
        method: bytes,
        hosts: Sequence[bytes],
        origins: Sequence[bytes],
        fetch_sites: Sequence[bytes],
    ) -> Refusal | None:
        """Why a request with these field values is refused; None if it is not."""
        if len(hosts) != 1:
            return Refusal(HTTPStatus.BAD_REQUEST, "a request needs one Host field")
        if not self._is_ours(hosts[0]):
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, "this site answers to loopback names only")
        if method in _SAFE_METHODS:
            return None
        if any(site.strip().lower() not in _OWN_SITE for site in fetch_sites):
            return Refusal(HTTPStatus.FORBIDDEN, "another site may not change this cache")
        if any(_authority(origin) != hosts[0].strip().lower() for origin in origins):
            return Refusal(HTTPStatus.FORBIDDEN, "another origin may not change this cache")
        return None

    def _is_ours(self, host: bytes) -> bool:
        if self.names is None:
            return True
        name = _name(host)
        return name is not None and (name == "localhost" or name in self.names or _is_loopback(name))


def _name(host: bytes) -> str | None:
    """The host of a ``Host`` field, without its port; None when it is none."""
    try:
        parts = urlsplit("//" + host.decode("ascii").strip())
        parts.port  # noqa: B018 (it is parsed, and checked, only when asked for)
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment or not parts.hostname:
        return None
    return parts.hostname.removesuffix(".")


def _authority(origin: bytes) -> bytes | None:
    """Host and port of an ``Origin`` field; None for ``null`` and for what is none."""
    scheme, separator, authority = origin.strip().lower().partition(b"://")
    return authority if separator and scheme in (b"http", b"https") else None


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
