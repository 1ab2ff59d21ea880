"""One thing to be done when the time is up."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime


@define(eq=False)
class Deadline:
    """At most one call that is still to be made.

    Cheap to set and to clear with each request: the timer is moved when it fires, not before. When the time
    is up it waits for one more turn of the reactor: it may have been this process that stood still, while
    what would have cleared the deadline had arrived.
    """

    _clock: IReactorTime
    _due: float | None = field(default=None, init=False)
    _call: Callable[[], object] | None = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _last_turn: bool = field(default=False, init=False)

    def set(self, seconds: float, call: Callable[[], object]) -> None:
        """Do this after so many seconds, and what was to be done before no more."""
        self._due = self._clock.seconds() + seconds
        self._call = call
        self._last_turn = False
        if self._timer is not None and self._timer.getTime() > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)

    def clear(self) -> None:
        """Do nothing."""
        self._due = self._call = None

    def end(self) -> None:
        """Do nothing, and leave nothing behind."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due is None or self._call is None:
            return
        left = self._due - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        elif not self._last_turn:
            self._last_turn = True
            self._timer = self._clock.callLater(0, self._look)
        else:
            call = self._call
            self.clear()
            call()
