"""The table of options in README.rst is what the options themselves say.

``python -m tests.unit.test_readme`` (``make readme``) writes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from oslo_config import cfg

from txglancecache.service.options import OPTIONS, flag

README = Path(__file__).parents[2] / "README.rst"
BEGIN = ".. The table of options. `make readme` writes it from the options' declarations.\n\n"
END = "\n.. The end of the table of options.\n"


def test_table_of_options() -> None:
    """If this fails, run ``make readme``."""
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text


def with_table(readme: str) -> str:
    """The text of a README with the current table in the place of whichever it has."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return "".join([before, BEGIN, "\n".join(_table()), "\n", END, after])


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
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
