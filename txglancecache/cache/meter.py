"""How fast bytes come, over the last few seconds."""

from __future__ import annotations

from collections import deque

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

_WINDOW = 5.0
_GRAIN = 0.25


@define(eq=False)
class Meter:
    """Counts bytes into short slots of time, and forgets the old ones."""

    _clock: IReactorTime
    _slots: deque[tuple[float, int]] = field(factory=deque, init=False)

    def add(self, count: int) -> None:
        """``count`` bytes have just come."""
        now = self._clock.seconds()
        if self._slots and now - self._slots[-1][0] < _GRAIN:
            begun, before = self._slots[-1]
            self._slots[-1] = (begun, before + count)
        else:
            self._slots.append((now, count))
        self._forget(now)

    @property
    def rate(self) -> float:
        """Bytes per second; 0 when none came for a while."""
        now = self._clock.seconds()
        self._forget(now)
        if not self._slots:
            return 0.0
        return sum(count for _, count in self._slots) / max(_GRAIN, now - self._slots[0][0])

    def _forget(self, now: float) -> None:
        while self._slots and now - self._slots[0][0] > _WINDOW:
            self._slots.popleft()
