"""Tables for people: as wide as what is in them, and no wider than the terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from attrs import frozen

from txglancecache.cli.wording import clean

T = TypeVar("T")
Paint = Callable[[str, str], str]
"""Puts a colour, by its name, on a text."""
_GAP = "  "
_ELLIPSIS = "…"
_LEAST = 20  # characters that the last column keeps where it is cut


@frozen
class Column(Generic[T]):
    """What of a row is shown, and under which title."""

    title: str
    cell: Callable[[T], str]
    right: bool = False
    spare: int = 0
    """More than 0: it may be left out where there is no room, the most spare first."""
    colour: Callable[[T], str | None] = lambda row: None


def table(columns: Sequence[Column[T]], rows: Sequence[T], width: int | None, paint: Paint) -> Iterator[str]:
    """The lines of a table. No width: as wide as it takes."""
    shown = [(column, [clean(column.cell(row)) for row in rows]) for column in columns]
    while width is not None and _width(shown) > width and any(column.spare for column, _ in shown):
        shown.remove(max(shown, key=lambda pair: pair[0].spare))
    widths = [_needed(column, cells) for column, cells in shown]
    if width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
        widths[-1] = max(widths[-1] - over, min(widths[-1], _LEAST))
    titles = [_fit(column.title, size, column.right) for (column, _), size in zip(shown, widths, strict=True)]
    yield paint(_GAP.join(titles).rstrip(), "title")
    for index, row in enumerate(rows):
        cells = []
        for (column, texts), size in zip(shown, widths, strict=True):
            text, colour = _fit(texts[index], size, column.right), column.colour(row)
            cells.append(text if colour is None else paint(text, colour))
        yield _GAP.join(cells).rstrip()


def pairs(values: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Names and what they are, one to a line; a name that is empty goes on with the one before."""
    indent = max((len(name) for name, _ in values), default=0)
    for name, value in values:
        yield f"{name:{indent}}{_GAP}{value}".rstrip()


def _needed(column: Column[T], cells: Sequence[str]) -> int:
    return max(len(column.title), *map(len, cells), 0)


def _width(shown: Sequence[tuple[Column[T], Sequence[str]]]) -> int:
    """How wide it has to be, with the last column cut."""
    *widths, last = (_needed(column, cells) for column, cells in shown)
    return sum(widths) + min(last, _LEAST) + len(_GAP) * (len(shown) - 1)


def _fit(text: str, size: int, right: bool) -> str:
    if len(text) > size:
        text = text[: size - 1] + _ELLIPSIS
    return text.rjust(size) if right else text.ljust(size)
