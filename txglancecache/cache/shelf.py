"""Body files that nobody needs now, kept open for whoever comes next: to open a file takes a thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: How many files are kept open at most.
KEPT_OPEN = 256


class Shelved(Protocol):
    """What can be put here."""

    def close(self) -> Deferred[None]:
        """Close the file; never fails."""


@define(eq=False)
class Shelf:
    """The files used last, at most ``most``, each for at most ``seconds``."""

    _clock: IReactorTime
    most: int = KEPT_OPEN
    seconds: float = 60.0
    _since: dict[Shelved, float] = field(factory=dict, init=False)  # the one used last comes last
    _timer: IDelayedCall | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[Shelved]:
        return iter(list(self._since))

    def put(self, body: Shelved) -> None:
        """Keep it open; it, or another, may be closed at once."""
        self._since[body] = self._clock.seconds()
        if len(self._since) > self.most:
            self._close(next(iter(self._since)))
        if self._timer is None:
            self._timer = self._clock.callLater(self.seconds, self._look)

    def take(self, body: Shelved) -> None:
        """Whoever takes it sees to its being closed. Nothing happens if it is not here."""
        self._since.pop(body, None)

    async def clear(self) -> None:
        """Close all of them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._since:
            await self._close(next(iter(self._since)))

    def _close(self, body: Shelved) -> Deferred[None]:
        del self._since[body]
        return body.close()

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for body, since in list(self._since.items()):
            left = since + self.seconds - now
            if left > 0:
                self._timer = self._clock.callLater(left, self._look)
                return
            self._close(body)
