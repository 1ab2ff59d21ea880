"""What `make bench` found: its rows, where it ran and with what. Goes to JSON and comes back."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import asdict, field, frozen

from benchmarks.figures import Bound, Figure, Sample, Target


def _figures(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    return tuple(figures)


@frozen
class Row:
    """One part of the result.

    ``samples`` are what the figures were made of; ``curves`` are lines to be drawn, by name, as (x, y) pairs;
    ``text`` is reStructuredText to follow the table. ``error``: why there are no figures.
    """

    key: str
    title: str
    figures: tuple[Figure, ...] = field(default=(), converter=_figures)
    samples: Mapping[str, list[Sample]] = field(factory=dict)
    curves: Mapping[str, Mapping[str, list[tuple[float, float]]]] = field(factory=dict)
    text: str = ""
    seconds: float = 0.0
    error: str = ""


def _rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(rows)


@frozen
class Result:
    """All of a run. ``machine`` and ``versions`` by name."""

    date: str
    seconds: float
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    rows: tuple[Row, ...] = field(converter=_rows)

    def to_json(self) -> str:
        def plain(_: object, __: object, value: Any) -> Any:
            return value.value if isinstance(value, Bound) else value

        return json.dumps(_rounded(asdict(self, value_serializer=plain)), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Result":
        told = json.loads(text)
        return cls(**{**told, "rows": tuple(map(_row, told["rows"]))})


def _row(told: dict[str, Any]) -> Row:
    return Row(**{**told, "figures": tuple(map(_figure, told["figures"]))})


def _figure(told: dict[str, Any]) -> Figure:
    target = told["target"]
    if target is not None:
        target = Target(Bound(target["bound"]), target["limit"])
    return Figure(**{**told, "target": target})


def _rounded(value: Any) -> Any:
    """Six digits of each number say all that there is to say."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
