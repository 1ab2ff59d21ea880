"""The bytes that one transfer is to bring, and how far they have been given away."""

from __future__ import annotations

from threading import Lock

from attrs import define, field


class TransferStopped(Exception):
    """The transfer was told that nobody wants its bytes any more."""


@define(eq=False)
class Span:
    """The bytes that one transfer brings, shared between the reactor and the thread that moves them.

    ``stop`` may shrink, and grow again up to what the origin was asked for. A mover asks with `take` before
    it moves anything, so that what it was granted stays its own.
    """

    start: int
    _stop: int
    _granted: int = field(init=False)
    _asked: int = field(default=0, init=False)
    _ended: bool = field(default=False, init=False)
    _stopped: bool = field(default=False, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    @_granted.default
    def _(self) -> int:
        return self.start

    @property
    def stop(self) -> int:
        return self._stop

    @property
    def stopped(self) -> bool:
        """Whether nobody wants these bytes any more."""
        return self._stopped

    def take(self, position: int, most: int) -> int:
        """How many bytes from ``position`` on may be moved now, at most ``most``; 0 at the end.

        :raises TransferStopped: nobody wants them any more.
        """
        with self._lock:
            if self._stopped:
                raise TransferStopped
            count = max(0, min(most, self._stop - position))
            self._granted = max(self._granted, position + count)
            self._ended = self._ended or position >= self._stop
            return count

    def hold(self, stop: int) -> int:
        """Keep what comes before ``stop`` from any other transfer; returns up to where it is this one's."""
        with self._lock:
            stop = min(stop, self._stop)
            self._granted = max(self._granted, stop)
            return stop

    def ask(self) -> int:
        """Where the answer is to end that is asked for now."""
        with self._lock:
            self._asked = self._stop
            return self._stop

    def shorten(self, stop: int) -> int:
        """End at ``stop``, or after what is being moved already; returns where it will end."""
        with self._lock:
            self._stop = min(self._stop, max(stop, self._granted))
            return self._stop

    def lengthen(self, stop: int) -> None:
        """Go on to ``stop`` after all, unless the mover has ended already."""
        with self._lock:
            if not self._ended:
                self._stop = max(self._stop, min(stop, self._asked))

    def give_up(self) -> None:
        """Have the mover stop at its next step."""
        with self._lock:
            self._stopped = True
