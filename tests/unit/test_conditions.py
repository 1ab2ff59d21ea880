"""Preconditions, mostly as RFC 9110 sections 8.8.3.2 and 13 put them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txglancecache.conditions import Conditions, Verdict

ETAG = b'"sha512-abc"'


@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [
        (b'W/"1"', b'W/"1"', False, True),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', False, True),
        (b'"1"', b'W/"1"', False, True),
        (b'"1"', b'"1"', True, True),
        (b'"1"', b'"2"', False, False),
    ],
)
def test_comparison(one: bytes, other: bytes, strongly: bool, weakly: bool) -> None:
    """The table of RFC 9110 section 8.8.3.2: If-Match and If-Range compare strongly, If-None-Match weakly."""
    assert (Conditions(if_match=one).verdict(other) is Verdict.PROCEED) == strongly
    assert Conditions(if_range=one).range_applies(other) == strongly
    assert (Conditions(if_none_match=one).verdict(other) is Verdict.NOT_MODIFIED) == weakly


def test_unconditional() -> None:
    """Without conditions a request goes ahead, and so does its range."""
    assert Conditions().verdict(ETAG) is Verdict.PROCEED
    assert Conditions().range_applies(ETAG)


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        (b"*", True),
        (b" * ", True),
        (b'"sha512-abc"', True),
        (b'"x", "sha512-abc"', True),
        (b'"sha512-abc" ,"x"', True),
        (b',, "x"\t, ,"sha512-abc",', True),
        (b'"a,b","sha512-abc"', True),
        (b'"x", "y"', False),
        (b'"SHA512-ABC"', False),
        (b'"sha512-ab"', False),
        (b'"x,"sha512-abc""', False),
        (b"sha512-abc", False),
        (b'"sha512-abc', False),
        (b'x"sha512-abc"', False),
        (b'"x" "sha512-abc"', False),
        (b'"sha512-abc" x', False),
        (b'"sha512-abc", x', False),
        (b'w/"sha512-abc"', False),
        (b'*, "x"', False),
        (b'"*"', False),
        (b"", False),
        (b",", False),
    ],
)
def test_lists(value: bytes, matches: bool) -> None:
    """A list matches if one of its members does, ``*`` always; a malformed one matches nothing."""
    if_match = Conditions(if_match=value).verdict(ETAG)
    assert if_match is (Verdict.PROCEED if matches else Verdict.PRECONDITION_FAILED)
    if_none_match = Conditions(if_none_match=value).verdict(ETAG)
    assert if_none_match is (Verdict.NOT_MODIFIED if matches else Verdict.PROCEED)


def test_tags_may_hold_all_but_quotes_and_spaces() -> None:
    """Each octet that RFC 9110 section 8.8.3 allows is part of the tag, a comma too."""
    octets = bytes(octet for octet in range(0x21, 0x100) if octet not in (0x22, 0x7F))
    etag = b'"' + octets + b'"'
    assert Conditions(if_none_match=b'"x", ' + etag).verdict(etag) is Verdict.NOT_MODIFIED
    for octet in (*range(0x21), 0x22, 0x7F):
        etag = b'"a%cb"' % octet
        assert Conditions(if_none_match=etag).verdict(etag) is Verdict.PROCEED
    assert Conditions(if_none_match=b'"x", "a,b"').verdict(b'"a,b"') is Verdict.NOT_MODIFIED
    assert Conditions(if_none_match=b'"a,b"').verdict(b'"a"') is Verdict.PROCEED


def test_if_match_comes_first() -> None:
    """A failed If-Match is the answer, whatever If-None-Match says (RFC 9110 section 13.2.2)."""
    both = Conditions(if_match=b'"x"', if_none_match=ETAG)
    assert both.verdict(ETAG) is Verdict.PRECONDITION_FAILED
    assert Conditions(if_match=ETAG, if_none_match=ETAG).verdict(ETAG) is Verdict.NOT_MODIFIED
    assert Conditions(if_match=ETAG, if_none_match=b'"x"').verdict(ETAG) is Verdict.PROCEED


@pytest.mark.parametrize(
    ("value", "applies"),
    [
        (ETAG, True),
        (b" " + ETAG + b" ", True),
        (b'"other"', False),
        (b"W/" + ETAG, False),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", False),
        (b"*", False),
        (ETAG + b', "x"', False),
        (b"sha512-abc", False),
        (b"", False),
    ],
)
def test_if_range(value: bytes, applies: bool) -> None:
    """If-Range takes one strong entity-tag; a date, a list or ``*`` never matches."""
    assert Conditions(if_range=value).range_applies(ETAG) is applies


def test_if_range_is_no_precondition() -> None:
    """An If-Range that does not match concerns the range alone."""
    assert Conditions(if_range=b'"x"').verdict(ETAG) is Verdict.PROCEED


opaque = st.from_regex(rb"[\x21\x23-\x7e\x80-\xff]{0,6}", fullmatch=True)
tags = st.tuples(st.sampled_from([b"", b"W/"]), opaque)


@given(st.lists(tags, max_size=5), opaque, st.sampled_from([b",", b", ", b" ,\t", b",,"]))
def test_any_list(some: list[tuple[bytes, bytes]], current: bytes, separator: bytes) -> None:
    """Whatever the tags hold, the list is taken apart where it was put together."""
    value = separator.join(weakness + b'"' + tag + b'"' for weakness, tag in some)
    etag = b'"' + current + b'"'
    weakly = any(tag == current for _, tag in some)
    strongly = (b"", current) in some
    assert (Conditions(if_none_match=value).verdict(etag) is Verdict.NOT_MODIFIED) == weakly
    assert (Conditions(if_match=value).verdict(etag) is Verdict.PROCEED) == strongly


@pytest.mark.parametrize("filler", [b" ", b'"', b",", b'"" ', b"W/", b'"a",'])
def test_time_is_linear(filler: bytes) -> None:
    """A long field that is malformed at its end does not keep the reactor."""
    began = time.process_time()
    assert Conditions(if_none_match=filler * 50_000 + b"x").verdict(ETAG) is Verdict.PROCEED
    assert time.process_time() - began < 0.5
