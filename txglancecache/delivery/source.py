"""What delivery needs of a reader."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred


class Source(Protocol):
    """Bytes of a file that may still be growing."""

    position: int

    @property
    def left(self) -> int:
        """Bytes still to be sent."""

    def available(self) -> int:
        """Bytes that may be sent now; raises when no more may be sent at all."""

    def advance(self, count: int) -> None:
        """So many have been sent."""

    def wait(self) -> Deferred[None]:
        """Fires when there may be more; fails when there will not be."""
