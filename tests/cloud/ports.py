"""Ports on loopback. They are taken from below the range that the kernel gives to outgoing connections, so
that none is lost between choosing it here and a service's binding it."""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LOWEST = 20000
_given: set[int] = set()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that nobody listens on and that this process has not given out before."""
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_LOWEST, max(ephemeral, _LOWEST + 1000))
        if port not in _given and is_free(port):
            _given.add(port)
            return port


def next_free(port: int) -> int:
    """`port` itself or the first one above it that is free."""
    return next(candidate for candidate in range(port, 65536) if is_free(candidate))
