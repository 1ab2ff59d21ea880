"""How long a client may take nothing before it is given up."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime


@define(eq=False)
class Patience:
    """Calls ``lost`` once nothing has been sent for ``seconds`` although there was something to send.

    Cheap to `renew` often: the timer is moved when it fires, not before. When the time is up it waits for one
    more turn of the reactor: it may have been this process that stood still, while the client was ready.
    """

    seconds: float
    _clock: IReactorTime
    _lost: Callable[[], None]
    _since: float = field(default=0.0, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _last: bool = field(default=False, init=False)

    def renew(self) -> None:
        """The client has just taken something, or there was nothing for it to take."""
        self._since = self._clock.seconds()
        if self._timer is None:
            self._timer = self._clock.callLater(self.seconds, self._look)

    def end(self) -> None:
        """Stop counting. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        left = self._since + self.seconds - self._clock.seconds()
        last, self._last = self._last, left <= 0
        if left > 0 or not last:
            self._timer = self._clock.callLater(max(0.0, left), self._look)
        else:
            self._lost()
