"""What happened in the cache, for those who want to know: the latest events, and the next ones."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable

from attrs import define, field, frozen

_KEPT = 1000


@frozen
class Event:
    """Something that an operator may want to know of.

    ``serial`` grows by one with each event of a process, from one on; ``time`` is in seconds since the epoch.
    """

    process: str
    serial: int
    time: float
    kind: str
    image_id: str
    detail: str

    @property
    def id(self) -> str:
        """No other event of this node has it, before a restart or after."""
        return f"{self.process}-{self.serial}"


@define(eq=False)
class EventLog:
    """The latest events, and who is to be told of the next.

    :param wall: the time of day, in seconds since the epoch.
    :param process: tells this process from those before it and after it; has no hyphen.
    """

    _wall: Callable[[], float]
    _process: str = field(factory=lambda: secrets.token_hex(4))
    _events: deque[Event] = field(factory=lambda: deque(maxlen=_KEPT), init=False)
    _subscribers: list[Callable[[Event], None]] = field(factory=list, init=False)
    _serial: int = field(default=0, init=False)

    def note(self, kind: str, image_id: str, detail: str = "") -> None:
        """Keep an event, and tell the subscribers."""
        self._serial += 1
        event = Event(self._process, self._serial, self._wall(), kind, image_id, detail)
        self._events.append(event)
        for subscriber in list(self._subscribers):
            subscriber(event)

    def recent(self) -> tuple[Event, ...]:
        """The latest events, the newest last."""
        return tuple(self._events)

    def last_id(self) -> str:
        """The id of the latest event; before there is any, an id that comes before the first."""
        return f"{self._process}-{self._serial}"

    def after(self, event_id: str) -> tuple[Event, ...]:
        """What came after the event with this id; all that is kept if this process knows no such event.

        Where some of it is not kept any more, the first is ``missed``, in the place of the last of these.
        """
        process, _, digits = event_id.rpartition("-")
        known = process == self._process and digits.isascii() and digits.isdecimal() and len(digits) < 20
        if not known or (seen := int(digits)) > self._serial:
            return self.recent()
        later = tuple(event for event in self._events if event.serial > seen)
        lost = later[0].serial - 1 - seen if later else 0
        if not lost:
            return later
        return Event(self._process, seen + lost, later[0].time, "missed", "", f"{lost} events"), *later

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``callback`` with each event to come; returns what ends that, once."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe
