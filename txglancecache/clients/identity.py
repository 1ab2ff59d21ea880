"""Whose request it is: who is behind the proxies that are trusted. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

#: What somebody who is no address may be called at most.
_LONGEST = 64
#: Who has one IPv6 address has the rest of its network too.
_IPV6_NETWORK = 64

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+")
_FOR = re.compile(r'(?:^|[;,])[ \t]*for=(?:"([^"]*)"|([^;, \t"]*))', re.IGNORECASE)


def client_of(
    peer: str,
    forwarded_for: Sequence[bytes],
    forwarded: Sequence[bytes],
    trusted: Callable[[str], bool],
) -> str:
    """A name for the client by which its requests can be counted.

    That is the peer's address, or, where the peer is a proxy that is trusted, the last one in its chain that
    is not. IPv6 clients count by their network.

    :param forwarded_for: the values of ``X-Forwarded-For``.
    :param forwarded: those of ``Forwarded`` (RFC 7239), looked at where there are none of the others.
    """
    client = _address(peer)
    if trusted(client):
        for hop in reversed(_chain(forwarded_for, forwarded)):
            client = hop
            if not trusted(client):
                break
    return _counted_as(client)


def any_of(networks: Sequence[str]) -> Callable[[str], bool]:
    """Whether an address is in one of these networks, such as those of the proxies that are trusted."""
    known = [ip_network(network) for network in networks]

    @lru_cache(4096)
    def is_in(address: str) -> bool:
        ip = _ip(address)
        return ip is not None and any(ip in network for network in known)

    return is_in


def _chain(forwarded_for: Sequence[bytes], forwarded: Sequence[bytes]) -> list[str]:
    text = ",".join(value.decode("latin-1") for value in forwarded_for)
    members = [member.strip() for member in text.split(",")]
    if not any(members):
        text = ",".join(value.decode("latin-1") for value in forwarded)
        members = [quoted or token for quoted, token in _FOR.findall(text)]
    return [_plain(member) for member in members if member]


def _plain(node: str) -> str:
    """Without brackets and port, and IPv4 where it is that."""
    found = _WITH_PORT.fullmatch(node)
    text = (found[1] or found[2] or "") if found else node
    address = _ip(text.partition("%")[0])
    return text[:_LONGEST] if address is None else str(address)


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address; of an IPv4 client on a socket for both, that one. ``None`` if it is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(1024)
def _address(peer: str) -> str:
    return _plain(peer)


@lru_cache(1024)
def _counted_as(client: str) -> str:
    address = _ip(client)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _IPV6_NETWORK), strict=False))
    return client
