"""A timer for peers that say nothing, or too little."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txglancecache.origin.patience import Patience


@define(eq=False)
class Silence:
    """Calls ``expired``, with the reason, once a peer that is listened to has used up `Patience`.

    Starting, stopping and hearing cost next to nothing, because they happen for each piece of a body: one
    delayed call looks now and then how it has been.
    """

    _clock: IReactorTime
    _limit: float
    _rate: float
    _expired: Callable[[str], None]
    _patience: Patience = field(init=False)
    _since: float | None = field(default=None, init=False)
    _look: IDelayedCall | None = field(default=None, init=False)
    _doubted: bool = field(default=False, init=False)

    @_patience.default
    def _(self) -> Patience:
        return Patience(self._limit, self._rate)

    def listen(self) -> None:
        """From now on silence counts."""
        if self._since is None:
            self._begin()
            if self._look is None:
                self._look = self._clock.callLater(self._limit, self._check)

    def heard(self, count: int) -> None:
        """``count`` bytes came: silence counts from now."""
        if self._doubted:
            self._begin()
        elif self._since is not None:
            self._account(self._since)
            self._patience.came(count)

    def begin_anew(self) -> None:
        """What went before is forgiven."""
        if self._since is not None:
            self._begin()

    def ignore(self) -> None:
        """Silence does not count until the next `listen`."""
        self._since = None
        self._doubted = False

    def stop(self) -> None:
        """Forget about it all."""
        self.ignore()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _begin(self) -> None:
        self._since = self._clock.seconds()
        self._doubted = False
        self._patience = Patience(self._limit, self._rate)

    def _account(self, since: float) -> None:
        self._since = self._clock.seconds()
        self._patience.waited(self._since - since)

    def _check(self) -> None:
        self._look = None
        if self._since is None:
            return
        self._account(self._since)
        complaint = self._patience.complaint()
        if complaint is None:
            self._look = self._clock.callLater(self._patience.left, self._check)
        else:
            # If this process stood still, the peer may have spoken meanwhile: its socket is read first.
            self._doubted = True
            self._look = self._clock.callLater(0, self._conclude, complaint)

    def _conclude(self, complaint: str) -> None:
        self._look = None
        if self._doubted:
            self.ignore()
            self._expired(complaint)
        elif self._since is not None:
            self._look = self._clock.callLater(self._patience.left, self._check)
