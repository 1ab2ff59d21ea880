"""Sizes as operators write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txglancecache.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("0", 0),
        ("512B", 512),
        ("512MiB", 512 * 1024**2),
        ("10GB", 10 * 1000**3),
        ("1TiB", 1024**4),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("2 KiB", 2048),
        (" 2kib\n", 2048),
        ("3KB", 3000),
        ("1PB", 1000**5),
        ("7EiB", 7 * 1024**6),
        ("1.9", 1),
        ("0.1GiB", 107374182),
        ("12345678901.99999999999999999999", 12345678901),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_parse(text: str, count: int) -> None:
    """A size is a number, perhaps with a decimal point, and perhaps a unit."""
    assert parse_size(text) == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a size: write a number and a unit, such as 512MiB or 10GB"),
        ("-1GiB", "is not a size"),
        ("1e9", "is not a size"),
        ("1,5GiB", "is not a size"),
        ("1.GiB", "is not a size"),
        ("GiB", "is not a size"),
        ("1GiB/s", "is not a size"),
        ("٣GiB", "is not a size"),
        ("1 000", "is not a size"),
        ("10G", r"'10G' has no known unit: use GiB \(1024-based\) or GB \(1000-based\)"),
        ("10k", r"use KiB \(1024-based\) or kB \(1000-based\)"),
        ("10 apples", "use B, KiB, MiB"),
        ("8EiB", "'8EiB' is too large"),
        ("9" * 21, "is not a size"),
        ("9" * 10_000, "'9{40}…' is not a size"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    """Anything else is refused with one line that says what to write."""
    with pytest.raises(ValueError, match=message) as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (3 * 1024**3 // 2, "1.5 GiB"),
        (10 * 1024**3, "10 GiB"),
        (1024**2 - 1, "1 MiB"),
        (1024**3 - 1024**2, "1023 MiB"),
        (2**63 - 1, "8 EiB"),
        (2000 * 1024**6, "2000 EiB"),
    ],
)
def test_format(count: int, text: str) -> None:
    """The largest unit that leaves 1 or more, one decimal place where there is one to show."""
    assert format_size(count) == text


@given(st.integers(0, 2**62))
def test_formatted_sizes_can_be_parsed(count: int) -> None:
    """What is shown can be written back, and is off by no more than its one decimal place."""
    shown = parse_size(format_size(count))
    assert abs(shown - count) <= 0.06 * 1024 ** max(0, (count.bit_length() - 1) // 10) + 1
