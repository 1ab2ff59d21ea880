"""How the transfers on one reactor share its turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txglancecache.delivery.manner import Preference

#: The most bytes that one transfer may send before the others' turn, and that all may in one turn.
SHARE = 4 << 20
_PER_TURN = 4 << 20

#: The most and the fewest bytes that one transfer holds in memory.
_MOST = 512 << 10
_LEAST = 64 << 10


@define(eq=False)
class Turn:
    """The transfers under way on one reactor.

    However many there are, they send no more than a few mebibytes before the reactor looks at everything
    else, so that a small request never waits for long. Who finds a turn used up stands in line for the next
    ones; each still sends a piece that is worth its while.
    """

    _clock: IReactorTime
    active: int = field(default=0, init=False)
    preference: Preference = field(factory=Preference, init=False)
    _sent: int = field(default=0, init=False)
    _line: deque[Callable[[], int]] = field(factory=deque, init=False)
    _next: IDelayedCall | None = field(default=None, init=False)

    def __enter__(self) -> Turn:
        self.active += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self.active -= 1

    @property
    def budget(self) -> int:
        """Bytes that one transfer may hold in memory; the less, the more there are."""
        return max(_LEAST, min(_MOST, _PER_TURN // max(1, self.active)))

    def take(self, send: Callable[[], int]) -> None:
        """Have ``send`` called: now, unless others wait or the turn is used up.

        It returns how many bytes it sent. When that is a whole `SHARE`, it is called again.
        """
        waiting = bool(self._line)
        self._line.append(send)
        if not waiting:
            self._work()

    def line_up(self, send: Callable[[], int]) -> None:
        """Have ``send`` called in one of the next turns, never before this returns."""
        self._line.append(send)
        self._schedule()

    def _schedule(self) -> None:
        if self._next is None:
            self._next = self._clock.callLater(0, self._begin)

    def _begin(self) -> None:
        """A new turn. What is counted since the last one may be several turns' worth: never too little."""
        self._next = None
        self._sent = 0
        self._work()

    def _work(self) -> None:
        try:
            while self._line and self._sent < _PER_TURN:
                send = self._line.popleft()
                sent = send()
                self._sent += sent
                if sent == SHARE:
                    self._line.append(send)
        finally:
            # Also when one has failed: the others are called by nobody else.
            if self._line:
                self._schedule()
