"""What is made of samples: ratios of paired rounds, medians with their spread, and whether a target is met.

Pure: no clock, no process, no file."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from statistics import median

from attrs import define, field, frozen

#: One turn of one server: values by name, such as ``bytes_per_second``.
Sample = Mapping[str, float]


class Bound(Enum):
    """On which side of its limit a figure should be."""

    AT_LEAST = "≥"
    AT_MOST = "≤"
    BELOW = "<"

    def holds(self, value: float, limit: float) -> bool:
        compare: dict[Bound, Callable[[float, float], bool]] = {
            Bound.AT_LEAST: operator.ge,
            Bound.AT_MOST: operator.le,
            Bound.BELOW: operator.lt,
        }
        return compare[self](value, limit)


@frozen
class Target:
    """What a figure is to reach."""

    bound: Bound
    limit: float

    def met_by(self, value: float) -> bool:
        return self.bound.holds(value, self.limit)


def at_least(limit: float) -> Target:
    return Target(Bound.AT_LEAST, limit)


def at_most(limit: float) -> Target:
    return Target(Bound.AT_MOST, limit)


def below(limit: float) -> Target:
    return Target(Bound.BELOW, limit)


def _tuple(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


@frozen
class Figure:
    """One line of the table: what was compared, a value for each round, and the target if there is one.

    ``unit`` is ``x`` for a ratio. ``note`` qualifies the figure, in a few words.
    """

    what: str
    values: tuple[float, ...] = field(converter=_tuple)
    unit: str = "x"
    target: Target | None = None
    note: str = ""

    @values.validator
    def _there_are_some(self, _: object, values: tuple[float, ...]) -> None:
        if not values:
            raise ValueError(f"{self.what}: no values")

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None if there is none."""
        return self.target.met_by(self.median) if self.target else None


@define
class Samples:
    """What came of a row's rounds: for each server, by name, a sample of every round, in order."""

    by_server: dict[str, list[Sample]] = field(factory=dict)

    def add(self, server: str, sample: Sample) -> None:
        self.by_server.setdefault(server, []).append(sample)

    def values(self, server: str, name: str) -> tuple[float, ...]:
        return tuple(sample[name] for sample in self.by_server[server])

    def median(self, server: str, name: str) -> float:
        return median(self.values(server, name))

    def ratios(self, name: str, of: str, to: str) -> tuple[float, ...]:
        """Round by round, ``of`` divided by ``to``."""
        return ratios(self.values(of, name), self.values(to, name))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, ...]:
    """The quotients of what belongs to the same round.

    :raises ValueError: the rounds are not the same, or something took no time at all.
    """
    if 0 in denominators:
        raise ValueError("a ratio to nothing")
    return tuple(above / under for above, under in zip(numerators, denominators, strict=True))


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least so many percent of them do not exceed."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def turns(names: Sequence[str], rounds: int) -> list[list[str]]:
    """Who is measured in which order, round by round: each begins as often as any other."""
    return [[*names[number % len(names) :], *names[: number % len(names)]] for number in range(rounds)]
