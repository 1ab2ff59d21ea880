"""The campaign: how long each trial is, and the table of what came of all of them.

A trial says what it did, how often, what its clients saw and what was lost; it fails like any test when that
is not what is promised. The table is a summary of trials that passed, never a judgement of its own."""

import os
import platform
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import define, field, frozen

import twisted

AREAS = ("Crash", "Origin", "Disk", "Clients", "Load", "Security", "Time", "Shutdown and upgrade")
NOTHING = "nothing"


@frozen
class Row:
    """What one trial found."""

    area: str
    what: str
    times: int
    clients: str
    lost: str


@define(eq=False)
class Campaign:
    """One run of the trials. `whole`: as long as they should be, not as short as they may be."""

    whole: bool
    rows: list[Row] = field(factory=list)

    def scale(self, short: int, whole: int) -> int:
        """How often, or for how many seconds, a trial of this run is to go on."""
        return whole if self.whole else short

    def whole_only(self) -> None:
        """This trial takes long, and what it is about has shorter ones."""
        if not self.whole:
            pytest.skip("a trial of `make faults` only: it takes long")

    def record(
        self,
        area: str,
        what: str,
        *,
        times: int,
        clients: str | Mapping[str, int] | Iterable[str],
        lost: str = NOTHING,
    ) -> None:
        """Put a trial's figures into the table.

        `what` was done `times` times; `clients` is what they saw: a sentence, or outcomes to be counted.
        """
        if area not in AREAS:
            raise ValueError(f"{area} is none of {', '.join(AREAS)}")
        self.rows.append(Row(area, what, times, _counted(clients), lost))

    def sorted_rows(self) -> list[Row]:
        """The table's rows; of what was done again, the latest."""
        latest = {(row.area, row.what): row for row in self.rows}
        return sorted(latest.values(), key=lambda row: (AREAS.index(row.area), row.what))


def _counted(clients: str | Mapping[str, int] | Iterable[str]) -> str:
    if isinstance(clients, str):
        return clients
    counts = Counter(clients) if isinstance(clients, Mapping) else Counter(list(clients))
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common() if count)


_HEADINGS = ("What was done", "Times", "What clients saw", "Lost")


def text_table(rows: Iterable[Row]) -> Iterator[str]:
    """The table for a terminal, line by line."""
    area = None
    for row in rows:
        if row.area != area:
            area = row.area
            yield f"{area}"
        yield f"  {row.times:>6} x {row.what}"
        yield f"           {row.clients}; lost: {row.lost}"


def rst_page(rows: Iterable[Row], seconds: float) -> str:
    """The table as a page of the documentation."""
    cells = [(row.area, row.what, f"{row.times:,}", row.clients, row.lost) for row in rows]
    lines = [
        "The fault campaign",
        "==================",
        "",
        "Written by ``make faults``. Each trial runs a real node, with real clients, before a real Glance or",
        "a peer that misbehaves as no Glance can be made to; ``tests/faults`` says what each checks.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.0f} minutes on {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"Twisted {twisted.__version__}, SQLite {sqlite3.sqlite_version}.",
        "",
    ]
    area = None
    for cell in cells:
        if cell[0] != area:
            area = cell[0]
            lines += ["", area, "-" * len(area), "", ".. list-table::", "   :header-rows: 1", ""]
            lines += _rst_row(_HEADINGS)
        lines += _rst_row(cell[1:])
    return "\n".join(lines) + "\n"


def _rst_row(cells: Iterable[str]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'*' if number == 0 else ' '} - {cell}"


def write_page(path: Path, rows: Iterable[Row], seconds: float) -> None:
    path.write_text(rst_page(rows, seconds))
