"""Range selection against RFC 9110's examples and a model; multipart framing against a MIME parser."""

from __future__ import annotations

import email
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txglancecache.ranges import (
    MAX_RANGES,
    ByteRange,
    MultipartPlan,
    Partial,
    Unsatisfiable,
    Whole,
    select,
)


def partial(*pairs: tuple[int, int]) -> Partial:
    return Partial(tuple(ByteRange(start, stop) for start, stop in pairs))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=0-499", partial((0, 500))),
        (b"bytes=500-999", partial((500, 1000))),
        (b"bytes=-500", partial((9500, 10000))),
        (b"bytes=9500-", partial((9500, 10000))),
        (b"bytes=0-0,-1", partial((0, 1), (9999, 10000))),
        (b"bytes= 0-999, 4500-5499, -1000", partial((0, 1000), (4500, 5500), (9000, 10000))),
        # "Other valid (but not canonical) specifications of the second 500 bytes"
        (b"bytes=500-600,601-999", partial((500, 1000))),
        (b"bytes=500-700,601-999", partial((500, 1000))),
    ],
)
def test_examples_of_rfc_9110(value: bytes, expected: Partial) -> None:
    """The examples of RFC 9110 section 14.1.2, for a representation of 10000 bytes."""
    assert select(value, 10_000) == expected


@pytest.mark.parametrize("value", [None, b"", b"  ", b"items=0-5", b"0-5", b"bytes 0-5", b"seconds=a"])
@pytest.mark.parametrize("size", [0, 1000])
def test_no_range_that_we_understand(value: bytes | None, size: int) -> None:
    """No field, an empty one, or another unit means the whole body (RFC 9110 section 14.2)."""
    assert select(value, size) == Whole()


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=5",
        b"bytes=a-b",
        b"bytes=5-b",
        b"bytes=--5",
        b"bytes=0-5-9",
        b"bytes=+1-5",
        b"bytes=0x1-5",
        b"bytes=1 - 5",
        b"bytes=0-5;6-7",
        b"bytes=5-2",
        b"bytes=0-0,5-2",
        b"bytes=0-0,5-4",
        b"bytes=0-0,-",
        b"bytes=0-0,a-b",
        b"bytes=0-0,x",
        b"bytes=1_0-20",
    ],
)
def test_malformed(value: bytes) -> None:
    """A malformed or reversed member spoils the whole set, satisfiable members or not."""
    assert select(value, 1000) == Unsatisfiable()


@pytest.mark.parametrize("value", [b"bytes=1000-", b"bytes=1000-2000", b"bytes=-0", b"bytes=1000-,-0"])
def test_unsatisfiable(value: bytes) -> None:
    """Ranges that begin at the end or beyond, and a suffix of nothing, cannot be satisfied."""
    assert select(value, 1000) == Unsatisfiable()


@pytest.mark.parametrize("value", [b"bytes=0-", b"bytes=0-0", b"bytes=-1", b"bytes=-0"])
def test_nothing_of_an_empty_body(value: bytes) -> None:
    """No range of an empty body can be satisfied."""
    assert select(value, 0) == Unsatisfiable()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"BYTES=0-1", partial((0, 2))),
        (b" bytes=0-1 ", partial((0, 2))),
        (b"bytes=,,0-1 ,\t5-6,,", partial((0, 2), (5, 7))),
        (b"bytes=990-5000", partial((990, 1000))),
        (b"bytes=999-999", partial((999, 1000))),
        (b"bytes=-5000", partial((0, 1000))),
        (b"bytes=007-008", partial((7, 9))),
        (b"bytes=5-6,2000-,-0", partial((5, 7))),
        (b"bytes=500-600,0-1", partial((500, 601), (0, 2))),
        # Two members that become one stand where the first of them stood.
        (b"bytes=50-60,0-1,900-,61-70", partial((50, 71), (0, 2), (900, 1000))),
        (b"bytes=0-1,2-3", partial((0, 4))),
        (b"bytes=0-1,3-4", partial((0, 2), (3, 5))),
        (b"bytes=5-5,5-5", partial((5, 6))),
        (b"bytes=10-20,0-", partial((0, 1000))),
    ],
)
def test_selection(value: bytes, expected: Partial) -> None:
    """Ranges are cut at the end, dropped beyond it, and merged where they overlap or touch."""
    assert select(value, 1000) == expected


def test_number_of_ranges_is_limited() -> None:
    """A set of more members than the limit is refused, however little it asks for."""
    members = [b"%d-%d" % (2 * index, 2 * index) for index in range(MAX_RANGES + 1)]
    allowed = select(b"bytes=" + b",".join(members[:-1]), 1000)
    assert isinstance(allowed, Partial)
    assert len(allowed.ranges) == MAX_RANGES
    assert select(b"bytes=" + b",".join(members), 1000) == Unsatisfiable()
    assert select(b"bytes=" + b",".join([b"0-0"] * (MAX_RANGES + 1)), 1000) == Unsatisfiable()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes=5-%s", partial((5, 1000))),
        (b"bytes=-%s", partial((0, 1000))),
        (b"bytes=%s-", Unsatisfiable()),
        (b"bytes=%s-%s", Unsatisfiable()),
        (b"bytes=%s-5", Unsatisfiable()),
        (b"bytes=5-5,%s-%s", partial((5, 6))),
    ],
)
def test_huge_numbers(value: bytes, expected: object) -> None:
    """Numbers of any length are valid, larger than any size, and cheap (RFC 9110 section 17.5)."""
    began = time.process_time()
    assert select(value.replace(b"%s", b"9" * 100_000), 1000) == expected
    assert time.process_time() - began < 0.5


def test_leading_zeros_do_not_make_a_number_huge() -> None:
    """Only significant digits count."""
    assert select(b"bytes=5-" + b"0" * 100 + b"7", 1000) == partial((5, 8))


def test_largest_size() -> None:
    """Nothing is lost at the far end of the largest file there can be."""
    size = 2**63 - 1
    assert select(b"bytes=%d-" % (size - 1), size) == partial((size - 1, size))
    assert select(b"bytes=%d-%d" % (size, size), size) == Unsatisfiable()


numbers = st.integers(0, 30)
specs = st.one_of(
    st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair))),
    st.tuples(numbers, st.none()),
    st.tuples(st.none(), numbers),
)


def text_of(first: int | None, last: int | None) -> str:
    return f"{'' if first is None else first}-{'' if last is None else last}"


def bytes_of(first: int | None, last: int | None, size: int) -> set[int]:
    if first is None:
        return set(range(size)[-last:]) if last else set()
    return {byte for byte in range(size) if byte >= first and (last is None or byte <= last)}


@given(st.lists(specs, min_size=1, max_size=6), st.integers(0, 25))
def test_selects_what_was_asked_for(some: list[tuple[int | None, int | None]], size: int) -> None:
    """For any valid set, the bytes selected are those asked for, each once, in parts that do not touch."""
    selection = select(f"bytes={','.join(text_of(*spec) for spec in some)}".encode(), size)
    asked_for = [bytes_of(*spec, size) for spec in some]
    if not any(asked_for):
        assert selection == Unsatisfiable()
        return
    assert isinstance(selection, Partial)
    selected = [byte for part in selection.ranges for byte in range(part.start, part.stop)]
    assert sorted(selected) == sorted(set().union(*asked_for))
    edges = sorted((part.start, part.stop) for part in selection.ranges)
    assert all(stop < start for (_, stop), (start, _) in pairwise(edges))
    # In the order of first mention.
    mentions = [
        next(index for index, wanted in enumerate(asked_for) if wanted & set(range(part.start, part.stop)))
        for part in selection.ranges
    ]
    assert mentions == sorted(mentions)


@given(st.binary(max_size=40).map(lambda tail: b"bytes=" + tail), st.integers(0, 50))
def test_never_fails(value: bytes, size: int) -> None:
    """Whatever the field holds, there is an answer, and it stays within the body."""
    selection = select(value, size)
    if isinstance(selection, Partial):
        assert all(0 <= part.start < part.stop <= size for part in selection.ranges)


def test_content_range() -> None:
    """Content-Range names the last byte, not the one after it; a 416 names the size alone."""
    assert ByteRange(0, 100).content_range(1000) == b"bytes 0-99/1000"
    assert ByteRange(999, 1000).content_range(1000) == b"bytes 999-999/1000"
    assert ByteRange(5, 8).length == 3
    assert Unsatisfiable().content_range(1000) == b"bytes */1000"


def framed(plan: MultipartPlan, body: bytes) -> bytes:
    parts = (preamble + body[part.start : part.stop] for preamble, part in plan.parts())
    return b"".join(parts) + plan.trailer


def test_multipart_as_in_the_rfc() -> None:
    """The framing of RFC 9110 section 14.6, octet for octet."""
    plan = MultipartPlan(b"SEP", 8, b"text/plain", (ByteRange(0, 2), ByteRange(5, 8)))
    assert plan.content_type_header == b"multipart/byteranges; boundary=SEP"
    assert framed(plan, b"abcdefgh") == (
        b"--SEP\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/8\r\n\r\nab"
        b"\r\n--SEP\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-7/8\r\n\r\nfgh"
        b"\r\n--SEP--\r\n"
    )


bodies = st.binary(min_size=1, max_size=60)
boundaries = st.from_regex(rb"[0-9a-f]{32}", fullmatch=True)


@given(bodies, boundaries, st.data())
def test_multipart_can_be_parsed(body: bytes, boundary: bytes, data: st.DataObject) -> None:
    """The promised length is that of the body, and a MIME parser gets every part out of it."""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), min_size=2, max_size=8)))
    ranges = tuple(ByteRange(start, stop) for start, stop in zip(cuts[::2], cuts[1::2], strict=False))
    plan = MultipartPlan(boundary, len(body), b"application/octet-stream", ranges)
    whole = framed(plan, body)
    assert plan.length == len(whole)

    message = email.message_from_bytes(b"Content-Type: " + plan.content_type_header + b"\r\n\r\n" + whole)
    parts = list(message.walk())[1:]
    assert [part["Content-Range"].encode() for part in parts] == [
        each.content_range(len(body)) for each in ranges
    ]
    assert [part.get_payload(decode=True) for part in parts] == [
        body[each.start : each.stop] for each in ranges
    ]
    assert {part.get_content_type() for part in parts} == {"application/octet-stream"}


@pytest.mark.parametrize("boundary", [b"", b"a b", b'a"b', b"a\r\nb", b"a;b", b"x" * 71])
def test_boundary_must_do_without_quotes(boundary: bytes) -> None:
    """A boundary that would break the header, or is longer than RFC 2046 allows, is an error."""
    with pytest.raises(ValueError, match="must match regex"):
        MultipartPlan(boundary, 8, b"text/plain", ())
