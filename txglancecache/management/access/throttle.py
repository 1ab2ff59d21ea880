"""How often one address may bring wrong credentials.

Each address has a number of failures to spend, which comes back with time. Pure, but for a clock.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

from attrs import define, field, frozen


@frozen
class _Failures:
    """So many of them counted at that moment, of which fewer count with every second."""

    count: float
    since: float


#: Seconds that sums of fractions may be off by.
_ROUNDING = 1e-6


@define(eq=False)
class Throttle:
    """Counts failures, and tells who has to wait.

    :param clock: the time in seconds.
    :param burst: failures that may follow each other at once.
    :param interval: seconds until one of them is forgiven.
    :param most: addresses that are remembered; of more, the ones that failed longest ago are forgotten.
    """

    _clock: Callable[[], float]
    _burst: int = 10
    _interval: float = 6.0
    _most: int = 10_000
    _failures: OrderedDict[str, _Failures] = field(factory=OrderedDict, init=False)

    def wait(self, address: str) -> int:
        """Whole seconds until this address may try again; 0: now."""
        excess = self._count(_whom(address)) - (self._burst - 1)
        return max(0, math.ceil(excess * self._interval - _ROUNDING))

    def failed(self, address: str) -> None:
        """Somebody at this address brought wrong credentials."""
        whom = _whom(address)
        # The count has a limit, or many failures at once would lock an address out for hours.
        count = min(self._count(whom) + 1, self._burst)
        self._failures[whom] = _Failures(count, self._clock())
        self._failures.move_to_end(whom)
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def _count(self, whom: str) -> float:
        known = self._failures.get(whom)
        if known is None:
            return 0.0
        left = known.count - (self._clock() - known.since) / self._interval
        if left <= 0:
            del self._failures[whom]
        return max(left, 0.0)


def _whom(address: str) -> str:
    """One site's IPv6 addresses, of which it has 2**64, are one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
