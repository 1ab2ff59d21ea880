"""Going through very many things without holding the reactor up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import TypeVar

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

_T = TypeVar("_T")

#: So many things are done between two looks at the clock.
_BATCH = 200
#: Seconds that the work may go on before something else has its turn.
_TURN = 0.005


@define(eq=False)
class Batches:
    """Goes through many things, and lets others have their turn in between."""

    _clock: IReactorTime

    async def each(self, things: Iterable[_T], do: Callable[[list[_T]], Awaitable[None] | None]) -> None:
        """Call ``do`` with a few of the things, again and again, until all were there.

        What it returns is waited for, if anything.
        """
        iterator = iter(things)
        began = self._clock.seconds()
        while batch := list(islice(iterator, _BATCH)):
            waiting = do(batch)
            if waiting is not None:
                await waiting
            if self._clock.seconds() - began > _TURN:
                await deferLater(self._clock, 0)
                began = self._clock.seconds()
