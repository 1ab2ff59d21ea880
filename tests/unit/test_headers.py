"""Header fields on their way through the proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from txglancecache.headers import (
    Peer,
    cache_status,
    end_to_end,
    first,
    forwarded,
    texts,
    values,
    via,
    without,
)

FIELDS = [(b"Accept", b"a"), (b"X-One", b"1"), (b"accept", b"b"), (b"x-two", b"2")]


def test_look_ups() -> None:
    """Names are compared without case; duplicates come in order."""
    assert values(FIELDS, b"ACCEPT") == [b"a", b"b"]
    assert values(FIELDS, b"x-three") == []
    assert first(FIELDS, b"Accept") == b"a"
    assert first(FIELDS, b"x-ONE") == b"1"
    assert first(FIELDS, b"x-three") is None


def test_without() -> None:
    """All fields of the names go, the others stay as they are."""
    assert without(FIELDS, b"ACCEPT", b"X-Two") == [(b"X-One", b"1")]
    assert without(FIELDS) == FIELDS


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authenticate",
        b"Proxy-Authentication-Info",
        b"Proxy-Authorization",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
    ],
)
def test_hop_by_hop(name: bytes) -> None:
    """Fields for one connection go, named by Connection or not, in any case."""
    for spelling in (name, name.lower(), name.upper()):
        fields = [(b"A", b"1"), (spelling, b"x"), (b"B", b"2"), (spelling, b"y")]
        assert end_to_end(fields) == [(b"A", b"1"), (b"B", b"2")]


@pytest.mark.parametrize(
    "connection",
    [
        [(b"Connection", b"close, X-Hop")],
        [(b"connection", b"x-hop")],
        [(b"Connection", b"keep-alive"), (b"Connection", b" ,,\tX-HOP ,")],
    ],
)
def test_what_connection_names(connection: list[tuple[bytes, bytes]]) -> None:
    """A field that any Connection field names goes with it (RFC 9110 section 7.6.1)."""
    fields = [(b"X-Hop", b"1"), (b"X-Hops", b"2"), *connection, (b"x-hop", b"3"), (b"X-Auth-Token", b"t")]
    assert end_to_end(fields) == [(b"X-Hops", b"2"), (b"X-Auth-Token", b"t")]


def test_connection_cannot_take_away_what_a_message_needs() -> None:
    """Host and Content-Length are for every recipient, whatever Connection says."""
    fields = [(b"Host", b"glance"), (b"Content-Length", b"5")]
    assert end_to_end([*fields, (b"Connection", b"Host, CONTENT-LENGTH, date")]) == fields


names = st.sampled_from([b"Accept", b"Connection", b"TE", b"X-A", b"x-b", b"Host", b"Set-Cookie", b"Upgrade"])
contents = st.lists(st.sampled_from([b"x-a", b"X-B", b"close", b"te"]), max_size=3).map(b", ".join)


@given(st.lists(st.tuples(names, contents)))
def test_the_rest_is_untouched(fields: list[tuple[bytes, bytes]]) -> None:
    """What is passed on keeps its order, duplicates, spelling and values; doing it twice changes nothing."""
    named = {name.strip().lower() for value in values(fields, b"connection") for name in value.split(b",")}
    gone = {b"connection", b"te", b"upgrade", *named}
    assert end_to_end(fields) == [(name, value) for name, value in fields if name.lower() not in gone]
    assert end_to_end(end_to_end(fields)) == end_to_end(fields)


def test_via() -> None:
    """This proxy is added after those that the message came through before."""
    assert via([], b"1.1", b"cache-1") == [(b"Via", b"1.1 cache-1")]
    fields = [(b"via", b"1.0 fred, 1.1 p.example"), (b"A", b"1"), (b"Via", b"1.1 (a, b) lb")]
    added = via(fields, b"1.0", b"cache-1")
    assert sorted(added) == [(b"A", b"1"), (b"Via", b"1.0 fred, 1.1 p.example, 1.1 (a, b) lb, 1.0 cache-1")]


PEER = Peer(client="192.0.2.7", scheme=b"http", host=b"glance.example:9292")
OF_PEER = {
    b"X-Forwarded-For": [b"192.0.2.7"],
    b"X-Forwarded-Proto": [b"http"],
    b"X-Forwarded-Host": [b"glance.example:9292"],
    b"Forwarded": [b'for=192.0.2.7;host="glance.example:9292";proto=http'],
}


def told(fields: list[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """What the X-Forwarded fields and Forwarded say, by their usual names; nothing may be said twice."""
    return {name: found for name in OF_PEER if (found := values(fields, name))}


@pytest.mark.parametrize("trusted", [True, False])
def test_forwarded_for_a_client(trusted: bool) -> None:
    """A request that has been through no proxy gets all four fields, and keeps its others."""
    fields = forwarded([(b"Accept", b"*/*"), (b"Host", b"glance.example:9292")], PEER, trusted)
    assert told(fields) == OF_PEER
    assert fields[:2] == [(b"Accept", b"*/*"), (b"Host", b"glance.example:9292")]
    assert len(fields) == 6


def test_untrusted_claims_are_replaced() -> None:
    """A client's own claims are dropped, in every spelling that an application may take for the field."""
    claims = [
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"X-Forwarded-For", b"10.0.0.2"),
        (b"X_Forwarded_For", b"10.0.0.3"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"evil.example"),
        (b"X-Forwarded-Prefix", b"/evil"),
        (b"X-FORWARDED-PORT", b"1"),
        (b"forwarded", b"for=10.0.0.1;proto=https"),
    ]
    fields = forwarded([*claims, (b"X-Forward", b"kept")], PEER, trusted=False)
    assert told(fields) == OF_PEER
    assert first(fields, b"X-Forward") == b"kept"
    assert len(fields) == 5


def test_a_client_without_host() -> None:
    """An HTTP/1.0 request may have no Host; then no host is told of, not even the client's claim."""
    peer = Peer(client="192.0.2.7", scheme=b"http", host=None)
    fields = forwarded([(b"X-Forwarded-Host", b"evil.example")], peer, trusted=False)
    assert b"X-Forwarded-Host" not in dict(fields)
    assert first(fields, b"Forwarded") == b"for=192.0.2.7;proto=http"


def test_trusted_chains_are_appended_to() -> None:
    """A trusted proxy's chains grow by that proxy; the scheme and host that the user asked for stay."""
    fields = forwarded(
        [
            (b"X-Forwarded-For", b"203.0.113.5"),
            (b"x-forwarded-for", b"203.0.113.6, ,203.0.113.7,"),
            (b"X-Forwarded-Proto", b"https"),
            (b"X-Forwarded-Host", b"cloud.example"),
            (b"X-Forwarded-Prefix", b"/image"),
            (b"Forwarded", b"for=203.0.113.5;proto=https"),
            (b"forwarded", b"for=203.0.113.6, for=203.0.113.7"),
        ],
        PEER,
        trusted=True,
    )
    assert told(fields) == {
        b"X-Forwarded-For": [b"203.0.113.5, 203.0.113.6, 203.0.113.7, 192.0.2.7"],
        b"X-Forwarded-Proto": [b"https"],
        b"X-Forwarded-Host": [b"cloud.example"],
        b"Forwarded": [
            b"for=203.0.113.5;proto=https, for=203.0.113.6, for=203.0.113.7, "
            b'for=192.0.2.7;host="glance.example:9292";proto=http'
        ],
    }
    assert first(fields, b"X-Forwarded-Prefix") == b"/image"


BY_PEER = OF_PEER[b"Forwarded"][0]


@pytest.mark.parametrize(
    ("older", "expected"),
    [
        (
            [
                (b"X-Forwarded-For", b"203.0.113.5, 2001:db8::1, 203.0.113.6:80, unknown"),
                (b"X-Forwarded-Proto", b"https"),
                (b"X-Forwarded-Host", b"cloud.example"),
            ],
            b'for=203.0.113.5;host="cloud.example";proto=https, for="[2001:db8::1]", for="203.0.113.6:80", '
            b"for=unknown, " + BY_PEER,
        ),
        ([(b"X-Forwarded-Proto", b"https")], b"proto=https, " + BY_PEER),
        ([(b"X-Forwarded-Proto", b"https, http")], b"proto=https, " + BY_PEER),
        ([(b"X-Forwarded-Host", b"a.example, b.example")], b'host="a.example", ' + BY_PEER),
        ([(b"X-Forwarded-For", b"203.0.113.5"), (b"Forwarded", b"")], b"for=203.0.113.5, " + BY_PEER),
    ],
)
def test_older_fields_are_translated(older: list[tuple[bytes, bytes]], expected: bytes) -> None:
    """Where a trusted proxy speaks the older fields only, Forwarded begins with what they say."""
    fields = forwarded(older, PEER, trusted=True)
    assert values(fields, b"Forwarded") == [expected]
    for name in (b"X-Forwarded-Proto", b"X-Forwarded-Host"):
        assert values(fields, name) == (values(older, name) or OF_PEER[name])


def test_forwarded_alone_is_not_contradicted() -> None:
    """Where a trusted proxy speaks Forwarded only, no older scheme and host are made up beside it."""
    fields = forwarded([(b"Forwarded", b"for=203.0.113.5;proto=https;host=c")], PEER, trusted=True)
    assert told(fields) == {
        b"X-Forwarded-For": [b"192.0.2.7"],
        b"Forwarded": [b"for=203.0.113.5;proto=https;host=c, " + BY_PEER],
    }


@pytest.mark.parametrize(
    ("client", "address", "node"),
    [
        ("192.0.2.7", b"192.0.2.7", b"for=192.0.2.7"),
        ("2001:db8:0::1", b"2001:db8::1", b'for="[2001:db8::1]"'),
        ("fe80::1%eth0", b"fe80::1", b'for="[fe80::1]"'),
        ("::ffff:192.0.2.7", b"192.0.2.7", b"for=192.0.2.7"),
        ("", b"unknown", b"for=unknown"),
        ("/run/glance.sock", b"unknown", b"for=unknown"),
    ],
)
def test_addresses(client: str, address: bytes, node: bytes) -> None:
    """IPv6 is bracketed and quoted in Forwarded and bare in X-Forwarded-For; no address is ``unknown``."""
    fields = forwarded([], Peer(client=client, scheme=b"https", host=None), trusted=False)
    assert first(fields, b"X-Forwarded-For") == address
    assert first(fields, b"Forwarded") == node + b";proto=https"


def test_host_cannot_break_out_of_its_quotes() -> None:
    """Quotes and backslashes in a Host are escaped."""
    fields = forwarded([], Peer(client="::1", scheme=b"http", host=b'a";for=b\\'), trusted=False)
    assert first(fields, b"Forwarded") == b'for="[::1]";host="a\\";for=b\\\\";proto=http'


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, b"glance-cache"),
        ({"hit": True}, b"glance-cache; hit"),
        ({"fwd": b"uri-miss", "stored": True}, b"glance-cache; fwd=uri-miss; stored"),
        ({"fwd": b"uri-miss", "collapsed": True}, b"glance-cache; fwd=uri-miss; collapsed"),
        (
            {"fwd": b"partial", "fwd_status": 206, "stored": True, "collapsed": True, "detail": b"resumed"},
            b"glance-cache; fwd=partial; fwd-status=206; stored; collapsed; detail=resumed",
        ),
        ({"hit": True, "detail": b'a "b" \\'}, b'glance-cache; hit; detail="a \\"b\\" \\\\"'),
        ({"detail": b"sha512:x/y"}, b"glance-cache; detail=sha512:x/y"),
        ({"detail": b"9lives"}, b'glance-cache; detail="9lives"'),
        ({"detail": b""}, b'glance-cache; detail=""'),
        ({"detail": b"\r\nX: \xc3\xa9"}, b'glance-cache; detail="??X: ??"'),
    ],
)
def test_cache_status(arguments: dict[str, object], expected: bytes) -> None:
    """Parameters as RFC 9211 names them, in its order; text is a token where it can be, else a string."""
    assert cache_status(b"glance-cache", **arguments) == expected  # type: ignore[arg-type]  # any of them


def test_cache_status_of_a_node_whose_name_is_no_token() -> None:
    """The cache's name is quoted where it has to be."""
    assert cache_status(b"node 7", hit=True) == b'"node 7"; hit'


def test_a_hit_is_not_forwarded() -> None:
    """RFC 9211 section 2: hit and fwd exclude each other."""
    with pytest.raises(ValueError, match="either a hit or forwarded"):
        cache_status(b"glance-cache", hit=True, fwd=b"stale")


def test_texts() -> None:
    """Any bytes are text, as many characters as they are; a field that is not there has no values."""
    sent = Headers({b"Accept": [b"text/\xff\xe9", b"*/*"]})
    assert texts(sent, b"accept") == ["text/\xff\xe9", "*/*"]
    assert texts(sent, b"Content-Type") == []
