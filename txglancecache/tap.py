"""What ``twistd`` knows of: from the command line to a running node. The only module that touches the global
reactor.

``twistd`` calls :func:`makeService` while it is still in the foreground, and forks afterwards. What can be
found wrong is found here, so that it is one line on the operator's stderr in daemon mode too: settings,
endpoints, the cache directory, whose lock (``flock``) outlives the fork, and whether the ports are free.
The rest has to wait for the fork, which neither threads nor SQLite survive, and after which a unix socket's
lock would name a process that is no more. What fails then, such as a port taken in between, ends the process
all the same: twistd passes it on to the terminal.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import Any

from twisted.application.service import IService

from txglancecache.errors import ConfigurationError, GlanceCacheError
from txglancecache.service.command import Options, refuse
from txglancecache.service.process import (
    go_by_uptime,
    heed_signals,
    here_to_stay,
    let_reactor_through,
    one_line,
    owned_by,
)

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """What ``twistd glancecache`` runs. Leaves with one line on stderr when it cannot."""
    reactor: Any
    with here_to_stay():
        # Nothing of a module ever goes. To look for what does would make this take a fifth longer.
        from twisted.internet import reactor

        from txglancecache.composition import compose

    go_by_uptime(reactor)
    let_reactor_through()
    twistd: dict[str, Any] = options.parent or {}
    try:
        if twistd.get("chroot") is not None:
            raise ConfigurationError("--chroot does not go with a cache directory that is opened before it")
        node = compose(options.settings, reactor, partial(owned_by, twistd.get("uid"), twistd.get("gid")))
    except GlanceCacheError as error:
        refuse(error)
    except KeyboardInterrupt:
        # It may have been waiting for another process.
        sys.exit(128 + signal.SIGINT)
    sys.excepthook = one_line
    heed_signals(reactor, node)
    return node
