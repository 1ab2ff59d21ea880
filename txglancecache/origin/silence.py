"""A timer for peers that say nothing."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime


@define(eq=False)
class Silence:
    """Calls ``expired`` once it has listened for ``limit`` seconds on end and heard nothing.

    Starting, stopping and hearing cost next to nothing, because they happen for each piece of a body: one
    delayed call looks now and then how long it has been quiet.
    """

    _clock: IReactorTime
    _limit: float
    _expired: Callable[[], None]
    _since: float | None = field(default=None, init=False)
    _look: IDelayedCall | None = field(default=None, init=False)

    def listen(self) -> None:
        """From now on silence counts."""
        if self._since is None:
            self._since = self._clock.seconds()
            if self._look is None:
                self._look = self._clock.callLater(self._limit, self._check)

    def heard(self) -> None:
        """Something came: silence counts from now."""
        if self._since is not None:
            self._since = self._clock.seconds()

    def ignore(self) -> None:
        """Silence does not count until the next `listen`."""
        self._since = None

    def stop(self) -> None:
        """Forget about it all."""
        self.ignore()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _check(self) -> None:
        self._look = None
        if self._since is None:
            return
        left = self._since + self._limit - self._clock.seconds()
        if left > 0:
            self._look = self._clock.callLater(left, self._check)
        else:
            self._since = None
            self._expired()
