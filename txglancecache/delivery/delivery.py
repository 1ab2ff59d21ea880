"""A reader's bytes onto a client's connection.

The one place where it is decided how: with ``sendfile`` where the connection is a plain socket, else by
copying. What is sent, and with which headers, has been settled before; what goes wrong here ends in an
aborted connection, never in a body that looks complete.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IReactorTime, ISSLTransport, ITCPTransport
from twisted.web.http import Request

from txglancecache.delivery.copying import CopyingProducer
from txglancecache.delivery.pages import Pages
from txglancecache.delivery.sendfile import SendfileProducer
from txglancecache.delivery.source import Source
from txglancecache.delivery.turn import Turn
from txglancecache.waiting import InThread

#: What is not more, in bytes, is sent in one go with the head, which is less work than `sendfile`.
_SMALL = 64 << 10


@define(eq=False)
class Delivery:
    """Sends bodies to clients.

    :param in_thread: runs short disk reads.
    :param stall_timeout: seconds for which a client may take nothing before it is given up.
    """

    _clock: IReactorTime
    _in_thread: InThread
    stall_timeout: float
    turn: Turn = field(init=False)

    @turn.default
    def _(self) -> Turn:
        return Turn(self._clock)

    async def send(self, request: Request, source: Source, fd: int) -> None:
        """Send what is left of ``source`` as a part of the response's body.

        The response's head, and what came before in its body, may still be in the transport's buffer.

        :raises ClientStalled: the client takes nothing.
        :raises ClientGone: it closed its connection.
        :raises Exception: what the source says when its bytes will not come.
        """
        if not source.left or self._send_small(request, source, fd):
            return
        transport = request.channel.transport
        plain = ITCPTransport.providedBy(transport) and not ISSLTransport.providedBy(transport)
        kind = SendfileProducer if plain and hasattr(transport, "getHandle") else CopyingProducer
        producer = kind(request, source, fd, self.turn, self._clock, self._in_thread, self.stall_timeout)
        with self.turn:
            await producer.run()

    def at_hand(self, size: int, fd: int | None) -> bytes | None:
        """The whole body, if it is small, and in the memory behind an open file."""
        if fd is None or size > _SMALL:
            return None
        return Pages(fd, self._in_thread).read(0, size)

    def _send_small(self, request: Request, source: Source, fd: int) -> bool:
        """Write what is left together with the head, if it is little and in memory; whether it was."""
        count = source.left
        if request.startedWriting or count > _SMALL or source.available() < count:
            return False
        data = Pages(fd, self._in_thread).read(source.position, source.position + count)
        if data is None:
            return False
        request.write(data)
        source.advance(count)
        return True
