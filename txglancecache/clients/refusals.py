"""Clients that are refused: why, what they are told, and who else is told.

Whoever attacks must not be able to fill the log: of each reason it tells the first case at once, and how many
more there were every ten seconds. Observers are told of all.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

_log = Logger()

#: Seconds that one line of the log stands for.
_PERIOD = 10.0


class Refusal(Enum):
    """Why a client is refused: the reason's name, and for the answer, if there is one, status and fields."""

    status: bytes
    fields: bytes

    MALFORMED = "malformed", b"400 Bad Request"
    METHOD = "method", b"405 Method Not Allowed"
    SLOW_HEAD = "slow_head", b"408 Request Timeout"
    SLOW_BODY = "slow_body", b"408 Request Timeout"
    LONG_LINE = "long_request_line", b"414 URI Too Long"
    LARGE_HEAD = "large_head", b"431 Request Header Fields Too Large"
    TOO_MANY_REQUESTS = "requests", b"429 Too Many Requests", b"Retry-After: 1\r\n"
    TOO_MANY_CONNECTIONS = "connections", b"503 Service Unavailable", b"Retry-After: 5\r\n"
    STALLED = "stalled", b""

    def __new__(cls, reason: str, status: bytes, fields: bytes = b"") -> Refusal:
        self = object.__new__(cls)
        self._value_ = reason
        self.status = status
        self.fields = fields
        return self

    def answer(self, fields: bytes = b"") -> bytes:
        """The whole answer, which says that it is the last on its connection."""
        head = b"HTTP/1.1 %s\r\n%s%sContent-Length: 0\r\nConnection: close\r\n\r\n"
        return head % (self.status, self.fields, fields)


class RefusalObserver(Protocol):
    """Who is told of each refusal."""

    def refused(self, site: str, reason: str) -> None:
        """A client of this site was refused, for the reason of this name."""


class Unobserved:
    """Nobody looks."""

    def refused(self, site: str, reason: str) -> None:
        pass


@define(eq=False)
class Refusals:
    """Tells of the clients of one site that are refused."""

    _site: str
    _clock: IReactorTime
    _observer: RefusalObserver = field(factory=Unobserved)
    _untold: dict[Refusal, int] = field(factory=dict, init=False)

    def note(self, refusal: Refusal, client: str) -> None:
        """:param client: its address, as far as it has one."""
        self._observer.refused(self._site, refusal.value)
        if refusal in self._untold:
            self._untold[refusal] += 1
            return
        _log.warn(
            "Refused a client of the {site} site: {reason} ({client})",
            site=self._site,
            reason=refusal.value,
            client=client or "local",
        )
        self._begin(refusal)

    def _begin(self, refusal: Refusal) -> None:
        self._untold[refusal] = 0
        self._clock.callLater(_PERIOD, self._tell, refusal)

    def _tell(self, refusal: Refusal) -> None:
        count = self._untold.pop(refusal)
        if count:
            _log.warn(
                "Refused {count} more clients of the {site} site in {seconds:.0f} s: {reason}",
                count=count,
                site=self._site,
                seconds=_PERIOD,
                reason=refusal.value,
            )
            self._begin(refusal)
