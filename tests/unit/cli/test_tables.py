"""Tables that fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from txglancecache.cli.tables import Column, pairs, table

Row = tuple[str, str, str]
COLUMNS: list[Column[Row]] = [
    Column("A", lambda row: row[0]),
    Column("LONG TITLE", lambda row: row[1], right=True, spare=1),
    Column("LAST", lambda row: row[2]),
]


def plain(text: str, colour: str) -> str:
    return text


def test_as_wide_as_it_takes() -> None:
    """Without a width nothing is cut."""
    rows = [("x", "1", "y" * 300), ("xxx", "22", "")]
    assert list(table(COLUMNS, rows, None, plain)) == [
        "A    LONG TITLE  LAST",
        "x             1  " + "y" * 300,
        "xxx          22",
    ]


def test_no_wider_than_the_terminal() -> None:
    """The end of the last column goes first, then what can be spared, and the last column is never cut to
    nothing."""
    rows = [("x", "1", "y" * 30)]
    assert list(table(COLUMNS, rows, 36, plain))[1] == "x           1  " + "y" * 20 + "…"
    assert list(table(COLUMNS, rows, 34, plain)) == ["A  LAST", "x  " + "y" * 30]
    assert list(table(COLUMNS, rows, 25, plain)) == ["A  LAST", "x  " + "y" * 21 + "…"]
    assert list(table(COLUMNS, rows, 5, plain)) == ["A  LAST", "x  " + "y" * 19 + "…"]


def test_colours() -> None:
    """They are no part of the width."""
    columns = [
        Column("A", lambda row: row[0], colour=lambda row: "red" if row[0] == "bad" else None),
        COLUMNS[2],
    ]
    shown = list(
        table(columns, [("bad", "", "z"), ("fine", "", "z")], 9, lambda text, how: f"<{how} {text}>")
    )
    assert shown == ["<title A     LAST>", "<red bad >  z", "fine  z"]


@given(some.lists(some.tuples(*[some.text(max_size=30)] * 3), max_size=5), some.integers(25, 120))
def test_one_line_each(rows: list[Row], width: int) -> None:
    """Whatever the cells hold, each row is one line, and no line is much wider than it may be."""
    lines = list(table(COLUMNS, rows, width, plain))
    assert len(lines) == len(rows) + 1
    assert all("\n" not in line for line in lines)
    assert max(map(len, lines)) <= max(width, 30 + 2 + 20)


def test_pairs() -> None:
    """Values in one column; a nameless one goes on with what is above."""
    assert list(pairs([("name", "x"), ("", "y"), ("longer", "z")])) == ["name    x", "        y", "longer  z"]
    assert list(pairs([])) == []
