"""The process's threads, by what they are for, so that no kind of work waits behind another.

None of them is the reactor's own: a transfer may hold its thread for minutes, and name lookups have to go
on meanwhile. Threads do not survive a fork; none exists before :meth:`Pools.start`.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from threading import Thread
from typing import Any, cast

from attrs import define, field
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from txglancecache.waiting import InThread

#: Short disk calls: opening, deleting, reading ahead.
_DISK_THREADS = 8
#: Transfers from the origin at once; each mostly waits for its socket.
_FILL_THREADS = 64
#: By how much less than others, in the kernel's terms of niceness, they matter whom nobody waits for.
_NICENESS = 10


@define(eq=False)
class Pools:
    """One pool for each kind of work."""

    _reactor: IReactorFromThreads
    _pools: list[ThreadPool] = field(factory=list, init=False)
    disk: InThread = field(init=False)
    fill: InThread = field(init=False)
    hash: InThread = field(init=False)
    audit: InThread = field(init=False)
    index: InThread = field(init=False)
    account: InThread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.disk = self._pool("disk", _DISK_THREADS)
        self.fill = self._pool("fill", _FILL_THREADS)
        self.hash = self._pool("hash", os.cpu_count() or 1)
        self.audit = self._pool("audit", os.cpu_count() or 1, _Unhurried)  # hashing for which no client waits
        self.index = self._pool("index", 1)  # one, so that what is put first is written first
        self.account = self._pool("account", 1)  # whom Keystone keeps waiting keeps nobody else waiting

    def start(self) -> None:
        """Begin to work, also on what has been asked for already."""
        for pool in self._pools:
            pool.start()

    def stop(self) -> None:
        """Wait for what is being done, and end. The work itself has to have been told to stop."""
        for pool in self._pools:
            pool.stop()

    def _pool(self, name: str, most: int, kind: type[Thread] = Thread) -> InThread:
        pool = ThreadPool(0, most, name)
        pool.threadFactory = kind
        self._pools.append(pool)
        run: Any = partial(deferToThreadPool, self._reactor, pool)
        return cast(InThread, run)


class _Unhurried(Thread):
    """Runs when others leave it a processor, and a little also when they do not."""

    def run(self) -> None:
        if sys.platform == "linux":  # elsewhere it would be said of the whole process
            os.nice(_NICENESS)
        super().run()
