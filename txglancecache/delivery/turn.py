"""How much one transfer may send per turn of the reactor."""

from __future__ import annotations

from attrs import define, field

_PER_TURN = 4 << 20
_MOST = 512 << 10
_LEAST = 64 << 10


@define(eq=False)
class Turn:
    """The transfers under way on one reactor, which share its turns.

    The more there are, the less each sends at once, so that a small request never waits for more than
    one turn's worth of bulk.
    """

    active: int = field(default=0, init=False)

    def __enter__(self) -> Turn:
        self.active += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self.active -= 1

    @property
    def budget(self) -> int:
        """Bytes that one transfer may send before the others have their turn."""
        return max(_LEAST, min(_MOST, _PER_TURN // max(1, self.active)))
