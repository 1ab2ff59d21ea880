"""What a node does to the process that it runs in: whose files it makes, its clock, signals, exit status,
stderr.

All of it is global, so all of it is done from the composition root only.
"""

from __future__ import annotations

import atexit
import gc
import os
import pwd
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType, TracebackType
from typing import Any

from twisted.logger import Logger
from twisted.web.http import datetimeToLogString

from txglancecache.errors import GlanceCacheError
from txglancecache.service.node import Node

_log = Logger()

#: Seconds after which a thread lets another one run Python; by itself Python takes ten times as many.
_HAND_OVER = 0.0005


@contextmanager
def owned_by(uid: int | None, gid: int | None) -> Iterator[None]:
    """Within this, what is made belongs to whom twistd is going to become."""
    if os.geteuid() != 0 or (uid is None and gid is None):
        yield
        return
    if uid is None:
        uid = 0
    elif gid is None:
        gid = pwd.getpwuid(uid).pw_gid
    os.setegid(gid or 0)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def go_by_uptime(reactor: Any) -> None:
    """Have the reactor, and all who ask it for the time, go by a clock that nobody sets.

    By itself it goes by the time of day: set back by an hour, it would let no time-out expire and every
    permission hold for that hour; set forward, it would let all of them expire at once. This clock goes on
    while the process is stopped or the machine suspended, as `time.monotonic` does not, so that no
    permission outlives a suspension. To be called before anything is scheduled.
    """
    reactor.seconds = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def let_reactor_through() -> None:
    """Have threads that compute hand the interpreter over soon. The reactor loses it at each system call."""
    sys.setswitchinterval(_HAND_OVER)


def starved() -> float:
    """For how many seconds this thread has had to wait for a processor so far; 0 where nobody counts them."""
    try:
        with open("/proc/thread-self/schedstat") as counts:
            return int(counts.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def access_line(timestamp: str, request: Any) -> str:
    """A line of the access log, in the combined format, with what ``Cache-Status`` says behind it.

    The time is that of the day, which the reactor's clock does not know. It has no query in it, neither the
    request's nor its referrer's: temporary URLs keep their secrets there.
    """
    ip = _quotable(getattr(request.getClientAddress(), "host", "-").encode())
    what = b"%b %b %b" % (request.method, _public(request.uri), request.clientproto)
    referrer = _public(request.getHeader(b"referer") or b"-")
    agent = request.getHeader(b"user-agent") or b"-"
    status = getattr(request, "cache_status", None)
    line = (
        f'"{ip}" - - {datetimeToLogString()} "{_quotable(what)}" {request.code} {request.sentLength or "-"}'
        f' "{_quotable(referrer)}" "{_quotable(agent)}"'
    )
    return line if status is None else f'{line} "{_quotable(status)}"'


def _quotable(text: bytes) -> str:
    """In ASCII, and with nothing in it that ends what it is quoted in."""
    text_of = repr(text)[2:-1]
    return text_of.replace("\\'", "'").replace('"', '\\"')


def _public(url: bytes) -> bytes:
    return re.split(rb"[?#]", url, maxsplit=1)[0]


@contextmanager
def here_to_stay() -> Iterator[None]:
    """Within this nothing is made that goes again in cycles: the collector does not look for any.

    Neither does it look at what was made here, or before, ever again. With 100,000 images that takes more
    time than loading them, and later on a second in which nobody is answered.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An ``excepthook`` for a start that fails after all: what went wrong, not where in the code."""
    if not isinstance(error, GlanceCacheError):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("{error}", error=str(error))
    print(f"twistd glancecache: {error}", file=sys.__stderr__)


def tell_supervisor(state: str) -> None:
    """Tell systemd how far the service is, ``READY=1`` or ``STOPPING=1``, where it asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    # "@" is how an environment variable spells the NUL of an abstract socket.
    address = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as supervisor:
            supervisor.sendto(state.encode("ascii"), address)
    except OSError as error:
        _log.warn("The supervisor cannot be told {state}: {error}", state=state, error=error)


def heed_signals(reactor: Any, node: Node) -> None:
    """Stop at SIGTERM or SIGINT, without further ado at the second one, and with exit status 0.

    twistd's own handlers make the process die of the signal after it has stopped, and do not expect
    another one. To be called before the reactor runs: it installs them then, and when it has ended it puts
    back what it found, so that a signal that comes later still does no harm.
    """
    stopping = over = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            node.hurry()
        else:
            stopping = True
            tell_supervisor("STOPPING=1")
            reactor.stop()

    def heed(number: int, frame: FrameType | None) -> None:
        if not over:
            reactor.callFromThread(stop)

    def install() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, heed)

    def ignore() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def end() -> None:
        nonlocal over
        over = True
        # The interpreter's own end takes handlers away.
        atexit.register(ignore)

    install()
    reactor.callWhenRunning(install)
    reactor.addSystemEventTrigger("after", "shutdown", end)


def give_up(reactor: Any, message: str) -> None:
    """Stop a running process, with a status that tells of it."""
    _log.critical("{message}", message=message)
    print(f"twistd glancecache: {message}", file=sys.__stderr__)
    # twistd offers no exit status of a service's own.
    atexit.register(os._exit, 1)
    reactor.stop()
