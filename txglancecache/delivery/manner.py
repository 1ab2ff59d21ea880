"""How the kernel is given a body that is all there, and which way of it costs less on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import define, field, frozen


@frozen(eq=False)
class Manner:
    """One way to hand a long run of a file to a socket.

    :param piece: the most bytes of one ``sendfile``.
    :param corked: whether only full segments go out (``TCP_CORK``), until the socket is told otherwise.
    """

    piece: int
    corked: bool


#: For what is short, what follows a fill, and for processors on which the cork costs: up to 40 % were seen.
FLUSHED = Manner(512 << 10, corked=False)

#: Better by up to 30 % on others.
CORKED = Manner(1 << 20, corked=True)

#: Bytes that are sent in one manner before its cost is looked at.
_WINDOW = 64 << 20

#: How many comparisons are made one after the other at first, and then one in how many windows.
_AT_FIRST = 8
_BETWEEN = 16


@define(eq=False)
class Preference:
    """Which manner is the cheaper one, by the processor's time that each takes here.

    A window is compared with the one just before it if that was in the other manner: a machine whose speed
    changes favours neither. Both are tried again for as long as bodies are sent, since it depends on the
    number of clients too which one is cheaper.

    :param cpu: seconds of the processor that the calling thread has taken so far.

    ``manner`` is the one to use now.
    """

    cpu: Callable[[], float] = time.thread_time
    manner: Manner = field(default=FLUSHED, init=False)
    _seconds: float = field(default=0.0, init=False)
    _sent: int = field(default=0, init=False)
    _before: tuple[Manner, float] | None = field(default=None, init=False)
    _advantage: float = field(default=0.0, init=False)  # of the cork: from -1 to 1
    _compared: int = field(default=0, init=False)
    _kept: int = field(default=0, init=False)  # windows since the other manner was tried

    def spent(self, seconds: float, sent: int) -> None:
        """So many seconds of the processor went into sending so many bytes in the present manner."""
        self._seconds += seconds
        self._sent += sent
        if self._sent >= _WINDOW:
            cost = self._seconds / self._sent
            self._seconds, self._sent = 0.0, 0
            if self._before is not None and self._before[0] is not self.manner:
                self._compare(cost, self._before[1])
            self._before = self.manner, cost
            self.manner = self._next()

    def _compare(self, cost: float, before: float) -> None:
        if not cost + before:
            return
        better = (before - cost) / (before + cost)
        self._compared += 1
        weight = 1 / min(self._compared, _AT_FIRST)
        self._advantage += weight * ((better if self.manner.corked else -better) - self._advantage)

    def _next(self) -> Manner:
        preferred, other = (CORKED, FLUSHED) if self._advantage > 0 else (FLUSHED, CORKED)
        self._kept = self._kept + 1 if self.manner is preferred else 0
        if self._compared < _AT_FIRST:
            return FLUSHED if self.manner.corked else CORKED
        return other if self._kept >= _BETWEEN else preferred
