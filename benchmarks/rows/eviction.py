"""Which policy of eviction keeps what is asked for again: no clock in here, only traces."""

from statistics import median

from attrs import frozen

from benchmarks.figures import Figure, Samples
from benchmarks.policies import FORESIGHT, OWN, POLICIES, hit_ratio
from benchmarks.result import Row
from benchmarks.stage import Stage
from benchmarks.traces import KINDS, Trace, trace

KEY = "eviction"
SIZES = (5, 10, 20, 35, 50)  # percent of the bytes of all images


@frozen
class _Cell:
    """The hit ratios of one policy on one kind of trace at one size, seed by seed."""

    kind: str
    size: int
    policy: str
    ratios: tuple[float, ...]


def run(stage: Stage) -> Row:
    cells = []
    for kind in KINDS:
        stage.say(f"  {kind}")
        traces = [trace(kind, stage.scale.trace_requests, seed) for seed in range(stage.scale.trace_seeds)]
        cells += [_cell(traces, size, policy) for size in SIZES for policy in POLICIES]
    figures = [_against_the_best(cells, kind) for kind in KINDS]
    curves = {
        kind: {
            policy: [(float(cell.size), median(cell.ratios)) for cell in cells if _is(cell, kind, policy)]
            for policy in POLICIES
        }
        for kind in KINDS
    }
    return Row(KEY, "Eviction", figures, curves=curves, text=_table(cells))


def _cell(traces: list[Trace], size: int, policy: str) -> _Cell:
    ratios = [hit_ratio(told, POLICIES[policy](told), told.footprint * size // 100) for told in traces]
    return _Cell(traces[0].name, size, policy, tuple(ratios))


def _is(cell: _Cell, kind: str, policy: str) -> bool:
    return (cell.kind, cell.policy) == (kind, policy)


def _against_the_best(cells: list[_Cell], kind: str) -> Figure:
    """The product's policy against the best of the others on this kind of trace, all sizes together."""
    seeds = range(len(cells[0].ratios))
    mean = {
        policy: [
            sum(cell.ratios[seed] for cell in cells if _is(cell, kind, policy)) / len(SIZES) for seed in seeds
        ]
        for policy in POLICIES
        if policy != FORESIGHT
    }
    others = {policy: values for policy, values in mean.items() if policy != OWN}
    best = max(others, key=lambda policy: median(others[policy]))
    values = Samples({name: [{"ratio": value} for value in values] for name, values in mean.items()}).ratios(
        "ratio", OWN, best
    )
    return Figure(f"bytes served from the cache, {kind}: {OWN} / {best}, the best of the others", values)


def _table(cells: list[_Cell]) -> str:
    by_place = {(cell.kind, cell.size, cell.policy): median(cell.ratios) for cell in cells}
    lines = [
        "The part of all bytes that comes from a cache of so many percent of the bytes of all images, for",
        "policies of eviction, on traces that ``benchmarks/traces.py`` makes up. The best of those that do",
        "not know the future is in bold.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - Trace",
        "     - Cache",
        *(f"     - {policy}" for policy in POLICIES),
    ]
    for kind in KINDS:
        for size in SIZES:
            best = max(by_place[kind, size, policy] for policy in POLICIES if policy != FORESIGHT)
            lines += [f"   * - {kind}", f"     - {size} %"]
            for policy in POLICIES:
                text = f"{by_place[kind, size, policy]:.3f}"
                is_best = text == f"{best:.3f}" and policy != FORESIGHT
                lines.append(f"     - {f'**{text}**' if is_best else text}")
    return "\n".join(lines) + "\n"
