"""The table of options in README.rst is what the options themselves say, and that of measurements is what
``make bench`` found last.

``python -m tests.unit.test_readme`` (``make readme``) writes both anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from oslo_config import cfg

from benchmarks import report
from txglancecache.service.options import OPTIONS, flag

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.rst"
MEASURED = "docs/benchmarks"

_OPTIONS = (
    ".. The table of options. `make readme` writes it from the options' declarations.\n\n",
    "\n.. The end of the table of options.\n",
)
_MEASUREMENTS = (
    ".. What was measured. `make readme` writes it from docs/benchmarks/results.json.\n\n",
    "\n.. The end of what was measured.\n",
)


def test_table_of_options() -> None:
    """If this fails, run ``make readme``."""
    text = README.read_text(encoding="utf-8")
    assert with_options(text) == text


def test_measurements() -> None:
    """If this fails, run ``make readme``."""
    text = README.read_text(encoding="utf-8")
    assert with_measurements(text) == text


def with_options(readme: str) -> str:
    """The text of a README with the current table in the place of whichever it has."""
    return _with(readme, _OPTIONS, "\n".join(_table()) + "\n")


def with_measurements(readme: str) -> str:
    """The text of a README with what was measured last, if anything was."""
    folder = CHECKOUT / MEASURED
    result = report.load(folder)
    told = report.overview(result, folder, at=f"{MEASURED}/", judged_only=True) if result else ""
    return _with(readme, _MEASUREMENTS, told)


def _with(readme: str, marks: tuple[str, str], between: str) -> str:
    begin, end = marks
    before, rest = readme.split(begin)
    _, after = rest.split(end)
    return "".join([before, begin, between, end, after])


def _table() -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield "   :widths: 24 20 16 40"
    yield ""
    yield from _row("Flag", "In the file", "Default", "Meaning")
    for name, opt in OPTIONS.items():
        yield from _row(f"``{flag(name)} {opt.metavar}``", f"``{name}``", _default(opt), _escaped(opt.help))


def _row(*cells: str) -> Iterator[str]:
    for mark, cell in zip("*   ", cells, strict=True):
        yield f"   {mark} - {cell}"


def _default(opt: cfg.Opt) -> str:
    if opt.default is None or opt.default == []:
        return "none"
    if isinstance(opt.default, bool):
        return "``yes``" if opt.default else "``no``"
    return f"``{opt.default}``"


def _escaped(text: str) -> str:
    return re.sub(r"([\\*`|_])", r"\\\1", text)


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(with_measurements(with_options(text)), encoding="utf-8")
