"""What a proxy does to header fields on their way through; bytes in, bytes out.

Owns the rules for hop-by-hop fields, ``Via``, the ``Forwarded`` family and ``Cache-Status``. Fields are
sequences of (name, value) pairs, because order and duplicates are the sender's and must survive. No
function changes what it is given. Message framing (``Content-Length``, ``Transfer-Encoding``) belongs to
the connections on either side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from attrs import frozen
from twisted.web.http_headers import Headers

RawHeaders = Sequence[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1 lists those that a proxy must drop whether or not Connection names them. The
# Proxy- fields (section 11.7) are meant for the next proxy only; this one does not ask for credentials,
# and whoever deploys it has no proxy behind it that does.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# "A sender MUST NOT send a connection option corresponding to a field that is intended for all recipients"
# (RFC 9110 section 7.6.1). Without these two the message could not be forwarded at all.
_NOT_AN_OPTION = frozenset({b"content-length", b"host"})

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
#: RFC 3986 section 3.2.2, not looking into IP literals, and an optional port. No userinfo.
_AUTHORITY = re.compile(rb"(\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(:[0-9]*)?")
_SF_TOKEN = re.compile(rb"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")  # RFC 9651 section 3.3.4


def is_host(text: bytes) -> bool:
    """Whether ``text`` can be a ``Host``."""
    return _AUTHORITY.fullmatch(text) is not None


def values(headers: RawHeaders, name: bytes) -> list[bytes]:
    """The values of all fields called ``name``, in order."""
    wanted = name.lower()
    return [value for field, value in headers if field.lower() == wanted]


def first(headers: RawHeaders, name: bytes) -> bytes | None:
    """The value of the first field called ``name``."""
    return _head(values(headers, name))


def texts(headers: Headers, name: bytes) -> list[str]:
    """The values of a field as text, whatever they are made of: a character for each byte.

    Twisted's own way to have them as text fails for what is not UTF-8, which anybody may send.
    """
    return [value.decode("latin-1") for value in headers.getRawHeaders(name, [])]


def without(headers: RawHeaders, *names: bytes) -> list[tuple[bytes, bytes]]:
    """All fields but those called one of ``names``."""
    unwanted = _lower(names)
    return [(field, value) for field, value in headers if field.lower() not in unwanted]


@lru_cache
def _lower(names: tuple[bytes, ...]) -> frozenset[bytes]:
    return frozenset(name.lower() for name in names)


def end_to_end(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The fields to pass on: not the hop-by-hop ones, nor those that ``Connection`` names.

    RFC 9110 section 7.6.1. ``Host`` and ``Content-Length`` stay even where ``Connection`` names them.
    """
    options = {option.lower() for option in _members(values(headers, b"Connection"))}
    return without(headers, *_HOP_BY_HOP, *(options - _NOT_AN_OPTION))


def via(headers: RawHeaders, version: bytes, pseudonym: bytes) -> list[tuple[bytes, bytes]]:
    """The fields with this proxy as the last member of ``Via`` (RFC 9110 section 7.6.3).

    :param version: the protocol version in which the message was received, such as ``b"1.1"``.
    """
    hops = [*filter(None, values(headers, b"Via")), version + b" " + pseudonym]
    return [*without(headers, b"Via"), (b"Via", b", ".join(hops))]


@frozen
class Peer:
    """Who is at the other end of the connection that a request came in on, and what it asked for."""

    client: str
    """Its address; anything that is not an IP address (a UNIX socket has none) is called ``unknown``."""

    scheme: bytes
    host: bytes | None
    """The request's ``Host``."""


def forwarded(headers: RawHeaders, peer: Peer, trusted: bool) -> list[tuple[bytes, bytes]]:
    """The fields with ``X-Forwarded-For``, ``-Proto``, ``-Host`` and ``Forwarded`` (RFC 7239) of ``peer``.

    What an untrusted peer says about others is dropped, whichever ``X-Forwarded-`` field it says it in, and
    with underscores too, which WSGI cannot tell from hyphens. A trusted peer is a proxy like this one: its
    chains are appended to, and the scheme and host it names, which the user asked for, are kept.

    Applications prefer ``Forwarded`` to the older fields and take the first member's word. So a trusted
    peer's older fields are translated if they are all that it sent (RFC 7239 section 7.4), and if
    ``Forwarded`` is all that it sent, no older scheme and host are made up that could contradict it.
    """
    if not trusted:
        headers = [(name, value) for name, value in headers if not _speaks_for_others(name)]
    chain = _members(values(headers, b"X-Forwarded-For"))
    protos = _members(values(headers, b"X-Forwarded-Proto"))
    hosts = _members(values(headers, b"X-Forwarded-Host"))
    elements = [*filter(None, values(headers, b"Forwarded"))]

    address = _address(peer.client)
    kept = without(headers, b"X-Forwarded-For", b"Forwarded")
    kept.append((b"X-Forwarded-For", b", ".join([*chain, address])))
    if not elements:
        if not protos:
            kept.append((b"X-Forwarded-Proto", peer.scheme))
        if not hosts and peer.host is not None:
            kept.append((b"X-Forwarded-Host", peer.host))
        elements = _translated(chain, protos, hosts)
    elements.append(_element(address, peer.scheme, peer.host))
    return [*kept, (b"Forwarded", b", ".join(elements))]


def cache_status(
    cache: bytes,
    *,
    hit: bool = False,
    fwd: bytes | None = None,
    stored: bool = False,
    collapsed: bool = False,
    fwd_status: int | None = None,
    detail: bytes | None = None,
) -> bytes:
    """One member of ``Cache-Status``, as RFC 9211 section 2 defines its parameters.

    :raises ValueError: for both ``hit`` and ``fwd``, which exclude each other.
    """
    if hit and fwd is not None:
        raise ValueError("a response is either a hit or forwarded")
    parts = [_sf_item(cache)]
    if hit:
        parts.append(b"hit")
    if fwd is not None:
        parts.append(b"fwd=" + fwd)
    if fwd_status is not None:
        parts.append(b"fwd-status=%d" % fwd_status)
    if stored:
        parts.append(b"stored")
    if collapsed:
        parts.append(b"collapsed")
    if detail is not None:
        parts.append(b"detail=" + _sf_item(detail))
    return b"; ".join(parts)


def _members(field_values: list[bytes]) -> list[bytes]:
    """The members of a comma-separated list of tokens, empty ones left out (RFC 9110 section 5.6.1)."""
    members = (member.strip(b" \t") for value in field_values for member in value.split(b","))
    return [member for member in members if member]


def _head(members: list[bytes]) -> bytes | None:
    return members[0] if members else None


def _speaks_for_others(name: bytes) -> bool:
    name = name.lower().replace(b"_", b"-")
    return name == b"forwarded" or name.startswith(b"x-forwarded-")


@lru_cache(1024)
def _address(client: str) -> bytes:
    try:
        address = ip_address(client)
    except ValueError:
        return b"unknown"
    if isinstance(address, IPv6Address):
        # A zone means nothing elsewhere, and an IPv4 client of a dual-stack socket is an IPv4 client.
        address = address.ipv4_mapped or IPv6Address(address.packed)
    return str(address).encode("ascii")


def _translated(chain: list[bytes], protos: list[bytes], hosts: list[bytes]) -> list[bytes]:
    """The older fields as elements of ``Forwarded``: the first tells what the first proxy was asked for."""
    head = _element(_head(chain), _head(protos), _head(hosts))
    return [*filter(None, [head]), *(_element(node, None, None) for node in chain[1:])]


def _element(node: bytes | None, proto: bytes | None, host: bytes | None) -> bytes:
    """One forwarded-element (RFC 7239 section 4); an IPv6 node is bracketed, thus quoted (section 6)."""
    pairs = []
    if node is not None:
        pairs.append(b"for=" + _token_or_quoted(b"[" + node + b"]" if _is_ipv6(node) else node))
    if host is not None:
        pairs.append(b"host=" + _quoted(host))
    if proto is not None:
        pairs.append(b"proto=" + _token_or_quoted(proto))
    return b";".join(pairs)


def _token_or_quoted(text: bytes) -> bytes:
    return text if _TOKEN.fullmatch(text) else _quoted(text)


@lru_cache(1024)
def _is_ipv6(node: bytes) -> bool:
    try:
        return ip_address(node.decode("ascii")).version == 6
    except ValueError:
        return False


def _quoted(text: bytes) -> bytes:
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", text) + b'"'


def _sf_item(text: bytes) -> bytes:
    """A structured-field token where ``text`` is one, else a string, which holds printable ASCII only."""
    if _SF_TOKEN.fullmatch(text):
        return text
    return _quoted(re.sub(rb"[^ -~]", b"?", text))
