"""When a fill asks again after a failure, and when it does not."""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txglancecache.errors import OriginOverloaded

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
#: For how long the origin may ask to be left alone. Clients wait meanwhile, and not for ever.
_LONGEST_ASKED = 30.0


@define(eq=False)
class Retries:
    """The failures in a row that the transfers of one fill have had, and the next try.

    :param limit: how many failures there may be.
    :param again: called when the time for a try has come.
    """

    _limit: int
    _reactor: IReactorTime
    _again: Callable[[], None]
    _failures: int = field(default=0, init=False)
    _misfits: int = field(default=0, init=False)
    _next: IDelayedCall | None = field(default=None, init=False)

    @property
    def pending(self) -> bool:
        """Whether a try is to come."""
        return self._next is not None

    def worked(self) -> None:
        """What came is more than nothing: failures are counted anew."""
        self._failures = 0

    def fitted(self) -> None:
        """An answer was of this image: those that were not are counted anew."""
        self._misfits = 0

    def bears_failure(self) -> bool:
        """Count a failure; whether it may be tried again. What breaks while a try is to come is no failure of
        its own."""
        if not self.pending:
            self._failures += 1
        if self._failures <= self._limit:
            return True
        self._failures = self._limit
        return False

    def bears_misfit(self) -> bool:
        """Count an answer that does not fit the image; whether it may be tried again. One may be some proxy's
        own; two in a row are the origin's."""
        self._misfits += 1
        return self._misfits == 1

    def schedule(self, error: Exception) -> float:
        """Try again after a while, which grows with the failures and is no shorter than an overloaded origin
        asks for; returns how long it is, in seconds. A try that is to come already stays."""
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(self._failures, 10))
        delay *= random.uniform(0.8, 1.2)  # noqa: S311
        if isinstance(error, OriginOverloaded) and error.retry_after is not None:
            delay = max(delay, min(error.retry_after, _LONGEST_ASKED))
        if not self.pending:
            self._next = self._reactor.callLater(delay, self._come)
        return delay

    def cancel(self) -> None:
        """Do without the try that is to come."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def forget(self) -> None:
        """Begin anew, with no failure and no try to come."""
        self.cancel()
        self._failures = self._misfits = 0

    def _come(self) -> None:
        self._next = None
        self._again()
