"""Ports on loopback. They are taken from below the range that the kernel gives to outgoing connections, so
that none is lost between choosing it here and a service's binding it, nor while a service is started again:
what was given out is reserved against other runs on this machine for as long as this process lives."""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LOWEST = 20000
_reserved: dict[int, socket.socket] = {}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that nobody listens on and that no run of these programs has given out."""
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_LOWEST, max(ephemeral, _LOWEST + 1000))
        if is_free(port) and _reserve(port):
            return port


def _reserve(port: int) -> bool:
    """Whether the port is this process's from now on. An abstract name goes when its process does."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0txglancecache.tests.port.{port}")
    except OSError:
        mark.close()
        return False
    _reserved[port] = mark
    return True


def next_free(port: int) -> int:
    """`port` itself or the first one above it that is free."""
    return next(candidate for candidate in range(port, 65536) if is_free(candidate))
