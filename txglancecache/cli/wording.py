"""How numbers, times and what a node says are written for people. Pure."""

from __future__ import annotations

import time

from txglancecache.sizes import format_size

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
NONE = "-"


def clean(text: str) -> str:
    """The text without what a terminal would take for orders."""
    return "".join(char if char.isprintable() else "?" for char in text)


def duration(seconds: float) -> str:
    """Two units at most: ``3 d 4 h``, ``5 min 2 s``, ``0.4 s``."""
    if 0 < seconds < 1:
        return f"{seconds:.1f} s"
    left = round(seconds)
    for index, (unit, name) in enumerate(_UNITS):
        if left >= unit:
            text = f"{left // unit} {name}"
            if index + 1 < len(_UNITS) and (rest := left % unit // _UNITS[index + 1][0]):
                text += f" {rest} {_UNITS[index + 1][1]}"
            return text
    return "0 s"


def ago(when: float | None, now: float) -> str:
    """How long ago, in one unit."""
    if when is None:
        return "never"
    left = max(round(now - when), 0)
    for unit, name in _UNITS:
        if left >= unit:
            return f"{left // unit} {name} ago"
    return "now"


def moment(when: float | None) -> str:
    """Date and time, here."""
    if when is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def rate(bytes_per_second: float) -> str:
    return f"{format_size(round(bytes_per_second))}/s"


def clock(seconds: float) -> str:
    """``0:05``, ``1:02:03``: a remaining time whose width hardly changes."""
    minutes, second = divmod(max(round(seconds), 0), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def percent(part: float, whole: float) -> str:
    """Never 100 % before it is all."""
    if not whole:
        return "100 %"
    value = int(100 * part / whole)
    return f"{value} %"


def count(number: int, thing: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def bar(fraction: float, width: int, *, unicode: bool) -> str:
    """A bar that is so much filled."""
    full, empty = ("█", "░") if unicode else ("#", "-")
    filled = int(min(max(fraction, 0.0), 1.0) * width)
    return full * filled + empty * (width - filled)


def strip(extents: tuple[tuple[int, int], ...], size: int, width: int, *, unicode: bool) -> str:
    """Which parts of an image are there: a cell is full when all of it is, half when some of it is."""
    full, some, none = ("█", "▒", "░") if unicode else ("#", "+", "-")
    cells = []
    for cell in range(width):
        start, stop = size * cell // width, max(size * (cell + 1) // width, size * cell // width + 1)
        held = sum(max(min(stop, b) - max(start, a), 0) for a, b in extents)
        cells.append(full if held >= stop - start else some if held else none)
    return "".join(cells)
