"""How many files, sockets among them, this process may have open, and whom that is enough for."""

from __future__ import annotations

import resource

from twisted.logger import Logger

from txglancecache.cache.shelf import KEPT_OPEN
from txglancecache.clients.site import TURNED_AWAY
from txglancecache.errors import ConfigurationError

_log = Logger()

#: The process itself: log, index, listening sockets, watched directories, and some to spare.
_OWN = 128
#: A connection to the origin, and what a thread needs to move a body from there: a second descriptor of the
#: socket, a pipe, the file.
_PER_ORIGIN_CONNECTION = 5
#: A client's connection, and the image that goes out on it.
_PER_CLIENT = 2
#: With fewer connections there is no use in starting.
_LEAST = 16


def raise_limit() -> int:
    """Take all that the operator allows; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def affordable(limit: int, wanted: int, manage: int, origin: int) -> int:
    """How many of the ``wanted`` connections to the data site a limit of open files carries.

    :param manage: connections to the management site.
    :param origin: connections to the origin.
    :raises ConfigurationError: too few to be of use.
    """
    if limit < 0:  # RLIM_INFINITY
        return wanted
    others = _OWN + KEPT_OPEN + 2 * TURNED_AWAY + manage + origin * _PER_ORIGIN_CONNECTION
    count = min(wanted, (limit - others) // _PER_CLIENT)
    if count < min(wanted, _LEAST):
        needed = others + _PER_CLIENT * wanted
        raise ConfigurationError(
            f"the limit of open files (RLIMIT_NOFILE) is {limit}, and {needed} are needed for "
            f"{wanted} connections of clients, {manage} to the management site and {origin} to the origin"
        )
    if count < wanted:
        _log.warn(
            "At most {count} connections to the data site, not {wanted}: the limit of open files "
            "(RLIMIT_NOFILE) is {limit}",
            count=count,
            wanted=wanted,
            limit=limit,
        )
    return count
