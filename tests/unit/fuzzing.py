"""What everything that reads bytes of strangers promises about any bytes at all.

A promise is a strategy and a check. `test_fuzz` tries each some hundred times, the fault campaign for as long
as it is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import h11
from attrs import frozen
from hypothesis import strategies as st

from txglancecache.conditions import Conditions, Verdict
from txglancecache.errors import OriginProtocolError
from txglancecache.extents import Extents
from txglancecache.headers import Peer, cache_status, end_to_end, forwarded, via
from txglancecache.image import Image, is_image_id
from txglancecache.management.accept import preferred
from txglancecache.management.access.guard import Guard
from txglancecache.management.access.keystone import parse
from txglancecache.management.access.permissions import Access, access
from txglancecache.management.compatible.paths import normal
from txglancecache.management.compatible.versions import with_cache_versions
from txglancecache.origin.framing import body_reader
from txglancecache.origin.glance import describe
from txglancecache.proxy.target import Target
from txglancecache.ranges import Partial, Unsatisfiable, Whole, select
from txglancecache.service.options import OPTIONS
from txglancecache.sizes import parse_size


@frozen
class Promise:
    """``check`` holds for whatever ``values`` gives."""

    values: st.SearchStrategy[Any]
    check: Callable[[Any], None]


#: Bytes that may be in a field's value (RFC 9110 section 5.5).
_field = st.binary(max_size=60).map(
    lambda data: bytes(byte for byte in data if byte > 31 and byte != 127).strip()
)
_digits = st.one_of(
    st.integers(0, 30).map(str), st.sampled_from(["", "0" * 40, "9" * 30, "007", "-1", " 3", "٣"])
)
_spec = st.tuples(_digits, _digits).map("-".join)
_range = st.one_of(
    _field,
    st.tuples(
        st.sampled_from(["bytes=", "Bytes=", "BYTES =", "bytes", "pages=", " bytes="]),
        st.lists(_spec, max_size=70).map(",".join),
    ).map(lambda parts: "".join(parts).encode()),
)
_name = st.one_of(
    st.sampled_from(
        [
            b"Forwarded",
            b"X-Forwarded-For",
            b"x_forwarded_for",
            b"X-Forwarded-Host",
            b"X_FORWARDED-PROTO",
            b"Connection",
            b"Via",
            b"Host",
            b"X-Auth-Token",
            b"Content-Length",
            b"Keep-Alive",
            b"TE",
            b"Upgrade",
        ]
    ),
    st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True),
)
_value = st.one_of(
    _field, _name, st.sampled_from([b"for=6.6.6.6", b"6.6.6.6", b'"', b"\\", b",,", b"close, x-auth-token"])
)
_headers = st.lists(st.tuples(_name, _value), max_size=8)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "status",
                    "size",
                    "checksum",
                    "os_hash_algo",
                    "os_hash_value",
                    "versions",
                    "token",
                    "user",
                    "name",
                    "roles",
                    "expires_at",
                    "project",
                    "domain",
                    "system",
                    "links",
                ]
            ),
            inner,
            max_size=7,
        ),
    ),
    max_leaves=20,
)
_document = st.one_of(st.binary(max_size=60), _json.map(lambda value: json.dumps(value).encode()))


def _check_range(value: bytes) -> None:
    """Each byte that is selected exists, none twice; what is plainly asked for is what is given."""
    size = 20
    found = select(value, size)
    if isinstance(found, Partial):
        covered = [position for part in found.ranges for position in range(part.start, part.stop)]
        assert len(covered) == len(set(covered))
        assert covered
        assert set(covered) <= set(range(size))
        assert set(covered) == _asked_for(value, size)
    else:
        assert isinstance(found, Whole | Unsatisfiable)
        if isinstance(found, Whole):
            assert value.strip().partition(b"=")[0].lower() != b"bytes"


def _asked_for(value: bytes, size: int) -> set[int]:
    """The positions, worked out one by one."""
    asked: set[int] = set()
    for member in value.strip().partition(b"=")[2].split(b","):
        first, dash, last = member.strip(b" \t").partition(b"-")
        if dash and first:
            stop = int(last) + 1 if last else size
            asked |= set(range(int(first), min(stop, size))) if int(first) < size else set()
        elif dash:
            asked |= set(range(max(0, size - int(last)), size))
    return asked


def _check_conditions(values: tuple[bytes, bytes, bytes, bytes]) -> None:
    """A tag that is listed is found; anything else is no error."""
    if_match, if_none_match, if_range, before = values
    etag = b'"sha512:00"'
    conditions = Conditions(if_match, if_none_match, if_range)
    assert isinstance(conditions.verdict(etag), Verdict)
    assert conditions.range_applies(etag) == (if_range.strip() == etag)
    listed = b'"%s" , W/"x",%s' % (bytes(byte for byte in before if byte not in b'" '), etag)
    assert Conditions(if_match=listed).verdict(etag) is Verdict.PROCEED
    assert Conditions(if_none_match=listed).verdict(etag) is Verdict.NOT_MODIFIED


def _check_headers(values: tuple[list[tuple[bytes, bytes]], bytes | None, bool]) -> None:
    """What is sent on can be sent, names no hop's own fields, and nothing that a stranger says of others."""
    headers, host, trusted = values
    sent = forwarded(via(end_to_end(headers), b"1.1", b"node"), Peer("192.0.2.1", b"http", host), trusted)
    sendable = [(name, value) for name, value in sent if name.lower() not in (b"host", b"content-length")]
    h11.Request(method=b"GET", target=b"/", headers=[(b"Host", b"x"), *sendable])
    names = [name.lower() for name, _ in sent]
    assert not {b"connection", b"te", b"upgrade", b"keep-alive"} & set(names)
    assert names.count(b"x-forwarded-for") == names.count(b"forwarded") == names.count(b"via") == 1
    if not trusted:
        said = {name.lower(): value for name, value in sent}
        assert said[b"x-forwarded-for"] == b"192.0.2.1"
        assert said[b"x-forwarded-proto"] == b"http"
        assert said.get(b"x-forwarded-host") == host
        assert [name for name in names if name.replace(b"_", b"-").startswith(b"x-forwarded")] == [
            name for name in names if name.startswith(b"x-forwarded-")
        ]


def _check_cache_status(detail: bytes) -> None:
    """Whatever it tells, it is one field of printable characters."""
    said = cache_status(b"node", fwd=b"miss", detail=detail)
    assert said.isascii()
    assert said.decode().isprintable()


def _check_target(values: tuple[bytes, bytes]) -> None:
    """What is a target goes to the origin as a path; what could be read as two things is none."""
    with suppress(ValueError):
        target = Target.parse(*values)
        assert target.uri.startswith(b"/") or target.uri == b"*"
        assert not set(target.uri) & set(range(33))
        assert target.authority is None or b"@" not in target.authority
        h11.Request(method=b"GET", target=target.uri, headers=[(b"Host", b"x")])


def _answer(body: bytes, sizes: list[int], extension: bytes) -> bytes:
    """The body in chunks of these sizes."""
    pieces, position = [], 0
    for size in [*sizes, len(body) + 1]:
        piece = body[position : position + size]
        position += len(piece)
        if piece:
            pieces.append(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece))
    return b"".join(pieces) + b"0\r\n\r\n"


def _read(head: bytes, cuts: list[int], data: bytes) -> tuple[bytes, bool, bool]:
    """What a body is read as that comes in these pieces; whether it ended, and whether there was more."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=b"GET", target=b"/", headers=[(b"Host", b"x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(head)
    response = parser.next_event()
    assert isinstance(response, h11.Response)
    reader, _ = body_reader(b"GET", response, parser)
    found, position = bytearray(), 0
    for cut in [*cuts, len(data)]:
        piece = data[position : position + cut]
        position += len(piece)
        for part in reader.feed(piece):
            found += part
    return bytes(found), reader.finished, reader.surplus


def _check_framing(values: tuple[bytes, list[int], list[int], bytes, bytes]) -> None:
    """A body is read as what was sent, however it is cut into pieces; what follows it is not part of it."""
    body, sizes, cuts, extension, more = values
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    sized = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    for head, sent in ((chunked, _answer(body, sizes, extension)), (sized, body)):
        assert _read(head, cuts, sent) == (body, True, False)
        assert _read(head, cuts, sent + more) == (body, True, bool(more))
        if sent:
            assert not _read(head, cuts, sent[:-1])[1]


def _check_chunks(values: tuple[list[int], bytes]) -> None:
    """What is no chunk is said to be none, and never read as a body that is whole."""
    cuts, data = values
    with suppress(OriginProtocolError):
        found, finished, _ = _read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", cuts, data)
        assert not finished or b"\n0" in b"\n" + data
        assert len(found) <= len(data)


def _check_description(document: bytes) -> None:
    """It is an image that can be told from others, or none."""
    with suppress(OriginProtocolError):
        image = describe(document)
        if isinstance(image, Image):
            assert image.size > 0
            assert image.etag.isascii()
            assert b"\r" not in image.etag + (image.repr_digest or b"")


def _check_versions(document: bytes) -> None:
    """It stays what it is, or is one still."""
    edited = with_cache_versions(document)
    assert edited == document or b"v2.14" in edited


def _check_token(document: bytes) -> None:
    """It describes somebody, or is none."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        user = parse(document, b"token")
        assert all(isinstance(role, str) for role in user.roles)
        assert "token" not in repr(user).replace("KeystoneUser", "")


def _check_access(values: tuple[bytes, list[bytes]]) -> None:
    """Everything has a rule; what is open to everybody can be listed."""
    method, segments = values
    found = access(method, normal(segments))
    assert isinstance(found, Access)
    path = b"/".join(normal(segments)).lstrip(b"/")
    if not found.known:
        public = path in (b"", b"versions", b"v2", b"v2/", b"cache/health")
        assert public or path.startswith(b"cache/static/")
        assert method.upper() in (b"GET", b"HEAD")
    if found.page:
        assert (method, segments) in ((b"GET", [b"cache", b""]), (b"HEAD", [b"cache", b""]))


def _check_guard(values: tuple[bytes, list[bytes], list[bytes], list[bytes]]) -> None:
    """Who is let through called this node by a name of its own."""
    refusal = Guard().refusal(*values)
    if refusal is None:
        (host,) = values[1]
        assert b"localhost" in host.lower() or b"127." in host or b"::1" in host or b"0:1" in host
        assert values[0] in (b"GET", b"HEAD", b"OPTIONS") or all(
            origin.lower().endswith(host.strip().lower()) for origin in values[2]
        )


def _check_accept(values: list[str]) -> None:
    """One of those offered is preferred, or none."""
    offered = ("application/json", "text/html")
    assert preferred(values, offered) in (*offered, None)


def _check_extents(text: str) -> None:
    """What is read is what would be written."""
    with suppress(ValueError):
        assert Extents.decode(text).encode() == text


def _check_size(text: str) -> None:
    """It is a number of bytes, or wrong."""
    with suppress(ValueError):
        assert parse_size(text) >= 0


def _check_options(values: tuple[str, str]) -> None:
    """Any text is a value of an option, or wrong; nothing else comes of it."""
    with suppress(ValueError):
        OPTIONS[values[0]].type(values[1])


def _check_image_id(text: str) -> None:
    """An id means nothing in a path or a URL."""
    if is_image_id(text):
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set("/\\%?#;&: \"'<>")
        assert text.strip(".")


_segments = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"cache",
                b"static",
                b"",
                b"..",
                b"v2",
                b"v2.14",
                b"v1",
                b"health",
                b"images",
                b"cache/static",
                b"metrics",
                b"cached_images",
                b"versions",
                b"%2e",
                b"/",
                b"cache/health",
            ]
        ),
        st.binary(max_size=6),
    ),
    max_size=5,
)
_method = st.one_of(
    st.sampled_from([b"GET", b"get", b"HEAD", b"Head", b"DELETE", b"OPTIONS", b"*"]),
    st.binary(min_size=1, max_size=5),
)
_authority = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"localhost", b"LOCALHOST:1", b"127.0.0.1:9394", b"[::1]", b"localhost.", b"localhost@evil", b"evil"]
    ),
)
_origin = st.one_of(_authority, _authority.map(lambda host: b"http://" + host))
_text = st.text(max_size=30)
_cuts = st.lists(st.integers(0, 20), max_size=8)

PROMISES: Mapping[str, Promise] = {
    "Range": Promise(_range, _check_range),
    "conditions": Promise(st.tuples(_field, _field, _field, _field), _check_conditions),
    "header fields": Promise(
        st.tuples(_headers, st.sampled_from([None, b"here:9393"]), st.booleans()), _check_headers
    ),
    "Cache-Status": Promise(st.binary(max_size=40), _check_cache_status),
    "request targets": Promise(
        st.tuples(
            st.sampled_from([b"GET", b"OPTIONS"]),
            st.one_of(
                st.binary(max_size=30),
                st.tuples(st.sampled_from([b"/", b"http://h", b"//", b"*", b"HTTP://u@h/"]), _field).map(
                    b"".join
                ),
            ),
        ),
        _check_target,
    ),
    "framing of answers": Promise(
        st.tuples(
            st.binary(max_size=200),
            st.lists(st.integers(1, 60), max_size=6),
            _cuts,
            st.sampled_from([b"", b";x", b';name="value"', b" "]),
            st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n", b"x"]),
        ),
        _check_framing,
    ),
    "chunks": Promise(
        st.tuples(
            _cuts,
            st.lists(
                st.one_of(
                    st.sampled_from(
                        [b"0\r\n\r\n", b"5\r\n", b"hello\r\n", b"-1\r\n", b"5\n", b"0x5\r\n", b"\r\n"]
                    ),
                    st.binary(max_size=8),
                ),
                max_size=6,
            ).map(b"".join),
        ),
        _check_chunks,
    ),
    "descriptions of images": Promise(_document, _check_description),
    "version documents": Promise(_document, _check_versions),
    "descriptions of tokens": Promise(_document, _check_token),
    "paths of the management site": Promise(st.tuples(_method, _segments), _check_access),
    "Host and Origin": Promise(
        st.tuples(
            _method,
            st.lists(_authority, max_size=2),
            st.lists(_origin, max_size=2),
            st.lists(_field, max_size=1),
        ),
        _check_guard,
    ),
    "Accept": Promise(st.lists(_text, max_size=3), _check_accept),
    "extents": Promise(st.one_of(_text, st.lists(_spec, max_size=5).map(",".join)), _check_extents),
    "sizes": Promise(
        st.one_of(_text, st.tuples(_digits, st.sampled_from(["GiB", "", "kb", " MB", "e9"])).map("".join)),
        _check_size,
    ),
    "options": Promise(st.tuples(st.sampled_from(sorted(OPTIONS)), _text), _check_options),
    "image ids": Promise(st.one_of(_text, st.text("ab.-_/%\n", max_size=5)), _check_image_id),
}
