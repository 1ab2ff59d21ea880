"""What the kernel knows about a client's connection, and does for it."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import ISSLTransport

#: Where ``tcpi_bytes_acked`` is in Linux's ``struct tcp_info``.
_BYTES_ACKED = struct.Struct("120xQ")


@define(eq=False)
class ClientSocket:
    """The socket under a transport, encrypted or not; all its questions have an answer without one, too."""

    _socket: socket.socket | None
    _is_tcp: bool = field(init=False)

    @_is_tcp.default
    def _(self) -> bool:
        families = (socket.AF_INET, socket.AF_INET6)
        return self._socket is not None and self._socket.family in families

    @classmethod
    def of(cls, transport: Any) -> ClientSocket:
        """The socket that a transport has in the end."""
        while ISSLTransport.providedBy(transport) or not hasattr(transport, "getHandle"):
            transport = getattr(transport, "transport", None)
            if transport is None:
                return cls(None)
        handle = transport.getHandle()
        return cls(handle if isinstance(handle, socket.socket) else None)

    def expect_signs_of_life(self, seconds: float) -> None:
        """Have the connection broken when its peer has vanished while there is nothing to send to it.

        Whether it takes what is sent is for `Taking` to say. The kernel could see to that as well
        (``TCP_USER_TIMEOUT``), but it would not say why it broke the connection.
        """
        if self._socket is None or not self._is_tcp:
            return
        probing = max(1, int(min(seconds, 120) / 4))
        with suppress(OSError):  # it may be gone already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                (socket.TCP_KEEPIDLE, probing * 2),
                (socket.TCP_KEEPINTVL, probing),
                (socket.TCP_KEEPCNT, max(1, min(int(seconds / probing) - 2, 127))),
            ):
                self._socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def untaken(self) -> int:
        """Bytes that were sent and have not arrived at the peer."""
        if self._socket is None:
            return 0
        try:
            answer = fcntl.ioctl(self._socket, termios.TIOCOUTQ, b"\0" * 4)
        except (OSError, ValueError):
            return 0
        return int.from_bytes(answer, "little")

    def taken(self) -> int | None:
        """Bytes that have arrived at the peer since the connection began; None: nobody knows."""
        if self._socket is None or not self._is_tcp:
            return None
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
            return int(_BYTES_ACKED.unpack(info)[0])
        except (OSError, struct.error):
            return None


@define(eq=False)
class Taking:
    """Whether a client takes what is sent to it.

    Asked once in a while, it says no if since the last time the client has taken neither all that there was
    for it then nor ``enough`` bytes. The kernel knows, whichever way it was sent; but not of a connection
    that is no TCP connection, so that the answer is always yes then.
    """

    _socket: ClientSocket
    _enough: int
    _taken: int = field(default=0, init=False)
    _untaken: int = field(default=0, init=False)

    def goes_on(self) -> bool:
        taken = self._socket.taken()
        if taken is None:
            return True
        before, wanted = self._taken, min(self._untaken, self._enough)
        self._taken, self._untaken = taken, self._socket.untaken()
        return taken - before >= wanted
