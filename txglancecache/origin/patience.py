"""For how long it is worth waiting for a peer. No I/O and no clock: whoever waits says how long it did."""

from __future__ import annotations

from attrs import define, field

#: What a sum of spans of time may be short of, in seconds.
_ROUNDING = 1e-6


@define(eq=False)
class Patience:
    """Ends with ``silence`` seconds in which nothing came, and with as many in which too little did.

    Only the time counts in which the peer was waited for. It has to send at least ``rate`` bytes a second,
    taken over ``silence`` seconds; 0: anything but silence will do.
    """

    silence: float
    rate: float = 0.0
    _quiet: float = field(default=0.0, init=False)
    _waited: float = field(default=0.0, init=False)
    _came: int = field(default=0, init=False)

    @property
    def left(self) -> float:
        """Seconds of waiting after which there may be a `complaint`."""
        return max(_ROUNDING, self.silence - max(self._quiet, self._waited))

    def waited(self, seconds: float) -> None:
        """So long nothing came."""
        self._quiet += seconds
        self._waited += seconds

    def came(self, count: int) -> None:
        """Something came: ``count`` bytes."""
        self._quiet = 0.0
        self._came += count

    def complaint(self) -> str | None:
        """Why it is not worth waiting any longer, if it is not."""
        enough = self.silence - _ROUNDING
        if self._quiet >= enough:
            return f"nothing of use came from the origin for {self.silence:g} s"
        if self._waited < enough:
            return None
        came, self._waited, self._came = self._came, 0.0, 0
        if came >= self.rate * self.silence:
            return None
        return f"only {came} bytes came from the origin in {self.silence:g} s"
