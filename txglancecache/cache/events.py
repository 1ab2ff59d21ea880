"""What happened in the cache, for those who want to know: the latest events, and the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field, frozen

_KEPT = 1000


@frozen
class Event:
    """Something that an operator may want to know of.

    ``serial`` grows by one with each event of a process; ``time`` is in seconds since the epoch.
    """

    serial: int
    time: float
    kind: str
    image_id: str
    detail: str


@define(eq=False)
class EventLog:
    """The latest events, and who is to be told of the next.

    :param wall: the time of day, in seconds since the epoch.
    """

    _wall: Callable[[], float]
    _events: deque[Event] = field(factory=lambda: deque(maxlen=_KEPT), init=False)
    _subscribers: list[Callable[[Event], None]] = field(factory=list, init=False)
    _serial: int = field(default=0, init=False)

    def note(self, kind: str, image_id: str, detail: str = "") -> None:
        """Keep an event, and tell the subscribers."""
        self._serial += 1
        event = Event(self._serial, self._wall(), kind, image_id, detail)
        self._events.append(event)
        for subscriber in list(self._subscribers):
            subscriber(event)

    def recent(self) -> tuple[Event, ...]:
        """The latest events, the newest last."""
        return tuple(self._events)

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``callback`` with each event to come; returns what ends that, once."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe
