"""Where a command's output goes: results to stdout, remarks and progress to stderr.

Decides in one place what is a terminal, how wide it is and whether there are colours.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from attrs import define

from txglancecache.cli.tables import Column, T, pairs, table
from txglancecache.cli.wording import clean

_CODES = {
    "title": "1",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
    "dim": "2",
}
_WIDTH = 80
_HEIGHT = 24
PROGRAM = "txglancecache"


@define(eq=False)
class Screen:
    """stdin, stdout and stderr, and how to write to them."""

    _environ: Mapping[str, str]
    _input: TextIO
    _out: TextIO
    _err: TextIO
    as_json: bool = False

    # results

    def line(self, text: str = "") -> None:
        self._out.write(text + "\n")

    def lines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.line(text)

    def table(self, columns: Sequence[Column[T]], rows: Sequence[T]) -> None:
        self.lines(table(columns, rows, self.width, self.paint))

    def pairs(self, values: Sequence[tuple[str, str]]) -> None:
        self.lines(pairs(values))

    def document(self, value: object) -> None:
        """A JSON document: indented on a terminal, one line elsewhere."""
        indent = 2 if self.is_terminal else None
        self.line(json.dumps(value, indent=indent))

    def flush(self) -> None:
        self._out.flush()

    def expect_reader(self) -> None:
        """Whoever waits for long with nothing to write would not notice that nobody reads any more.

        :raises BrokenPipeError: nobody does.
        """
        try:
            poll = select.poll()
            poll.register(self._out.fileno(), 0)
        except (OSError, ValueError):
            # It is no file: a test's buffer.
            return
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise BrokenPipeError

    # remarks

    def remark(self, text: str) -> None:
        """Something that is not the result."""
        self.flush()
        self._err.write(f"{PROGRAM}: {clean(text)}\n")
        self._err.flush()

    def progress(self, text: str) -> None:
        """Raw text for the terminal that shows progress."""
        self._err.write(text)
        self._err.flush()

    # what it is

    @property
    def is_terminal(self) -> bool:
        return self._out.isatty()

    @property
    def shows_progress(self) -> bool:
        """Whether stderr is a terminal whose cursor can be moved."""
        return self._err.isatty() and self._environ.get("TERM", "dumb") != "dumb"

    @property
    def width(self) -> int | None:
        """Of stdout; None where it is no terminal."""
        return self._size(self._out)[0] if self.is_terminal else None

    @property
    def progress_size(self) -> tuple[int, int]:
        """Columns and lines of stderr's terminal."""
        return self._size(self._err)

    @property
    def unicode(self) -> bool:
        """Whether stdout can show more than ASCII."""
        return _is_unicode(self._out)

    @property
    def progress_unicode(self) -> bool:
        return _is_unicode(self._err)

    def paint(self, text: str, colour: str) -> str:
        return self._painted(text, colour, self._out)

    def paint_progress(self, text: str, colour: str) -> str:
        return self._painted(text, colour, self._err)

    # what a person or a pipe says

    def ask(self, question: str) -> bool | None:
        """Whether a person agrees; None if there is nobody to ask."""
        if not (self._input.isatty() and self._err.isatty()):
            return None
        self.flush()
        self._err.write(f"{question} [y/N] ")
        self._err.flush()
        return self._input.readline().strip().lower() in ("y", "yes")

    def words(self) -> list[str]:
        """What stdin says, word by word."""
        return self._input.read().split()

    def _painted(self, text: str, colour: str, stream: TextIO) -> str:
        plain = self._environ.get("NO_COLOR") or self._environ.get("TERM", "dumb") == "dumb"
        if plain or not stream.isatty():
            return text
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"

    def _size(self, stream: TextIO) -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            columns, lines = 0, 0
        told = self._environ.get("COLUMNS", "")
        return int(told) if told.isdecimal() and int(told) else columns or _WIDTH, lines or _HEIGHT


def _is_unicode(stream: TextIO) -> bool:
    try:
        "█░▒━…".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
