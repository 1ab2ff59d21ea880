"""Range requests: which bytes a ``Range`` field selects, and how several are framed (RFC 9110 section 14).

Pure rules. Whether a ``Range`` is to be looked at in the first place (GET only; ``If-Range``) is settled by
the caller, with :mod:`txglancecache.conditions`; so is where the bytes come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import field, frozen
from attrs.validators import matches_re

from txglancecache.extents import Extents

MAX_RANGES = 64
"""A request for more parts than this is refused (RFC 9110 section 17.15)."""

_RANGE_SPEC = re.compile(rb"(\d*)-(\d*)")

# As many digits as any size has. A number of more is valid and must not break the arithmetic (RFC 9110
# section 17.5); all that matters of it is that it is larger than any size.
_DIGITS = 19
_BEYOND = 10**_DIGITS


@frozen
class ByteRange:
    """The bytes ``[start, stop)`` of a body; not empty."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int) -> bytes:
        """The value of ``Content-Range`` for these bytes of ``size`` (RFC 9110 section 14.4)."""
        return b"bytes %d-%d/%d" % (self.start, self.stop - 1, size)


@frozen
class Whole:
    """No range that we understand is asked for: 200 and the whole body."""


@frozen
class Partial:
    """206 with these ranges, none of which touch each other: one as the body, more as a multipart."""

    ranges: tuple[ByteRange, ...]


@frozen
class Unsatisfiable:
    """416: nothing that is asked for exists, or the request is not worth answering otherwise."""

    def content_range(self, size: int) -> bytes:
        """The value of ``Content-Range`` that tells the client the size (RFC 9110 section 14.4)."""
        return b"bytes */%d" % size


Selection = Whole | Partial | Unsatisfiable


def select(value: bytes | None, size: int) -> Selection:
    """What a ``Range`` of ``value`` selects of a body of ``size`` bytes (RFC 9110 sections 14.1.2 and 14.2).

    A unit other than bytes must be ignored. A set that is malformed or has a reversed member may be; we
    answer 416, as Glance does. Members beyond the end are dropped if others are not. Those that overlap or
    touch are merged, which section 15.3.7.2 allows; the rest keep the order in which they were asked for.
    """
    if value is None:
        return Whole()
    unit, _, range_set = value.strip().partition(b"=")
    if unit.lower() != b"bytes":
        return Whole()
    specs = [spec for spec in (member.strip(b" \t") for member in range_set.split(b",")) if spec]
    if len(specs) > MAX_RANGES:
        return Unsatisfiable()
    try:
        resolved = [_resolve(spec, size) for spec in specs]
    except ValueError:
        return Unsatisfiable()
    wanted = [(start, stop) for start, stop in resolved if start < stop]
    return Partial(_merged(wanted)) if wanted else Unsatisfiable()


@frozen
class MultipartPlan:
    """The framing of several ranges as one ``multipart/byteranges`` body (RFC 9110 sections 14.6, 15.3.7.2).

    It says what goes around the ranges' bytes, so that those can be sent by any means. A body is, for each of
    :meth:`parts`, the preamble and the bytes of the range, then :attr:`trailer`.
    """

    boundary: bytes = field(validator=matches_re(rb"[0-9A-Za-z'+_.-]{1,70}"))
    """Something that does not occur in the body; of RFC 2046's characters those that need no quotes."""

    size: int
    """Of the whole body."""

    content_type: bytes
    ranges: tuple[ByteRange, ...]

    @property
    def content_type_header(self) -> bytes:
        """The value of ``Content-Type`` for the response; that of the body itself goes into each part."""
        return b"multipart/byteranges; boundary=" + self.boundary

    @property
    def length(self) -> int:
        """The value of ``Content-Length`` for the response."""
        return sum(len(preamble) + part.length for preamble, part in self.parts()) + len(self.trailer)

    def parts(self) -> Iterator[tuple[bytes, ByteRange]]:
        """Each range and what goes in front of it."""
        separator = b""
        for part in self.ranges:
            preamble = b"%s--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n"
            yield (
                preamble % (separator, self.boundary, self.content_type, part.content_range(self.size)),
                part,
            )
            separator = b"\r\n"

    @property
    def trailer(self) -> bytes:
        """What goes after the last range."""
        return b"\r\n--" + self.boundary + b"--\r\n"


def _resolve(spec: bytes, size: int) -> tuple[int, int]:
    """The interval that a range-spec means in a body of ``size`` bytes; empty if it is unsatisfiable.

    :raises ValueError: if it is malformed or reversed.
    """
    match = _RANGE_SPEC.fullmatch(spec)
    if match is None or spec == b"-":
        raise ValueError(f"not a range: {spec!r}")
    first, last = match.groups()
    if not first:
        return max(0, size - _number(last)), size
    start = _number(first)
    stop = _number(last) + 1 if last else _BEYOND + 1
    if stop <= start:
        raise ValueError(f"a reversed range: {spec!r}")
    return start, min(stop, size)


def _number(digits: bytes) -> int:
    significant = digits.lstrip(b"0")
    return int(significant or b"0") if len(significant) <= _DIGITS else _BEYOND


def _merged(wanted: list[tuple[int, int]]) -> tuple[ByteRange, ...]:
    """``wanted`` with what overlaps or touches made one, at the place of the first of its members."""
    intervals = Extents.of(*wanted).intervals
    homes = (next(home for home in intervals if home[0] <= start < home[1]) for start, _ in wanted)
    return tuple(ByteRange(*home) for home in dict.fromkeys(homes))
