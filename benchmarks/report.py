"""A result as reStructuredText: a table with each figure beside its target, and where it was measured.

Pure, but for `write`. What is said about shortfalls is not made here: people write it, in ``shortfalls.rst``
beside the result, and it is taken over as it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.result import Result, Row

RESULTS, SUMMARY, SHORTFALLS = "results.json", "summary.rst", "shortfalls.rst"

_ABOUT = """\
A ratio compares two servers that did the same work in turns, on the same machine and in the same minutes,
round by round; its spread is that of the rounds. CPU is user and system time of the server and its children.
The clients are one process on the same machine, which has the kernel discard what it receives.
"""


def summary(
    result: Result, shortfalls: str = "", pictures: Mapping[str, str] | None = None, at: str = ""
) -> str:
    """The result as a part of a page, without a title of its own.

    :param shortfalls: what people say about figures that miss their target.
    :param pictures: what they show, by file name.
    :param at: where the pictures are, seen from the page; with a slash at the end.
    """
    lines = [
        f"Measured on {result.date} in {result.seconds / 60:.0f} minutes. "
        + "; ".join(f"{name.lower()}: {value}" for name, value in result.machine.items())
        + ". "
        + ", ".join(f"{name} {version}" for name, version in result.versions.items())
        + ".",
        "",
        *_ABOUT.splitlines(),
        "",
        _counted(result),
        "",
    ]
    lines += _table(result.rows)
    if shortfalls.strip():
        lines += ["", shortfalls.strip()]
    for name, what in (pictures or {}).items():
        lines += ["", f".. image:: {at}{name}", f"   :alt: {what}"]
    for row in result.rows:
        if row.text:
            lines += ["", row.text.rstrip()]
    return "\n".join(lines) + "\n"


def _counted(result: Result) -> str:
    judged = [figure for row in result.rows for figure in row.figures if figure.target]
    met = sum(bool(figure.met) for figure in judged)
    failed = [row.title for row in result.rows if row.error]
    text = f"{met} of {len(judged)} targets are met."
    return text + (f" Not measured: {', '.join(failed)}." if failed else "")


def _table(rows: tuple[Row, ...]) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 58 12 16 8 6", "")
    yield from _cells("What", "Median", "Spread", "Target", "Met")
    for row in rows:
        if row.error:
            yield from _cells(row.title, "", "", "", f"not measured: {_escaped(row.error)}")
        for figure in row.figures:
            yield from _cells(*_texts(figure))


def _texts(figure: Figure) -> Iterator[str]:
    yield _escaped(figure.what) + (f" ({_escaped(figure.note)})" if figure.note else "")
    unit = "" if figure.unit == "x" else f" {figure.unit}"
    yield f"{number(figure.median)}{unit}"
    yield f"{number(figure.low)} to {number(figure.high)}"
    yield f"{figure.target.bound.value} {figure.target.limit:g}{unit}" if figure.target else ""
    yield {True: "yes", False: "**no**", None: ""}[figure.met]


def number(value: float) -> str:
    """Three digits that count, and never an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cells(*texts: str) -> Iterator[str]:
    for mark, text in zip("*    ", texts, strict=True):
        yield f"   {mark} - {text}".rstrip()


def _escaped(text: str) -> str:
    return (
        " ".join(text.split())
        .replace("\\", "\\\\")
        .replace("*", "\\*")
        .replace("`", "\\`")
        .replace("|", "\\|")
    )


def write(result: Result, folder: Path, pictures: Mapping[str, str]) -> None:
    """Write the raw figures and the page into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).write_text(result.to_json(), encoding="utf-8")
    (folder / SUMMARY).write_text(page(result, folder, pictures), encoding="utf-8")


def page(result: Result, folder: Path, pictures: Mapping[str, str]) -> str:
    head = "Measured\n========\n\n.. Written by `make bench`.\n\n"
    return head + summary(result, said_about_shortfalls(folder), pictures)


def said_about_shortfalls(folder: Path) -> str:
    path = folder / SHORTFALLS
    return path.read_text(encoding="utf-8") if path.exists() else ""
