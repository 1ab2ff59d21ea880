"""How numbers and times are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from txglancecache.cli import wording


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3725, "1 h 2 min"),
        (86_400 * 2 + 30, "2 d"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """Two units next to each other, at most."""
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("when", "text"), [(None, "never"), (1000, "now"), (1005, "now"), (990, "10 s ago"), (-90_000, "1 d ago")]
)
def test_ago(when: float | None, text: str) -> None:
    """One unit; clocks that disagree do not make a future of it."""
    assert wording.ago(when, 1000) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "0:05"), (600, "10:00"), (3723.2, "1:02:03"), (-1, "0:00")]
)
def test_clock(seconds: float, text: str) -> None:
    """As clocks show it."""
    assert wording.clock(seconds) == text


def test_percent() -> None:
    """It is 100 % when it is all, and not before; nothing of nothing is all."""
    assert [wording.percent(part, 1000) for part in (0, 9, 10, 999, 1000)] == [
        "0 %",
        "0 %",
        "1 %",
        "99 %",
        "100 %",
    ]
    assert wording.percent(0, 0) == "100 %"


@given(some.floats(-1, 2), some.integers(0, 50))
def test_bar(fraction: float, width: int) -> None:
    """Exactly as wide as it should be."""
    assert len(wording.bar(fraction, width, unicode=False)) == width


@given(some.lists(some.integers(0, 100), min_size=2, max_size=8, unique=True), some.integers(1, 120))
def test_strip(edges: list[int], width: int) -> None:
    """A cell is full, empty or in between as the bytes are that it stands for."""
    edges = sorted(edges)[: len(edges) // 2 * 2]
    extents = tuple(zip(edges[::2], edges[1::2], strict=True))
    cells = wording.strip(extents, 100, width, unicode=False)
    assert len(cells) == width
    held = {byte for start, stop in extents for byte in range(start, stop)}
    for index, cell in enumerate(cells):
        start = 100 * index // width
        bytes_here = set(range(start, max(100 * (index + 1) // width, start + 1)))
        assert cell == ("#" if bytes_here <= held else "+" if bytes_here & held else "-")


def test_clean() -> None:
    """Whatever a terminal would obey is replaced; letters of any language are not."""
    assert wording.clean("a\x1b[2J\r\nü\u202e") == "a?[2J??ü?"
