"""A peer made of raw bytes: what a server says, and when, is a coroutine per connection."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

_T = TypeVar("_T")


class Gone(Exception):
    """The other side closed before it had sent what was waited for."""


@define(eq=False, slots=False)
class Peer(Protocol):
    """One accepted connection; ``data`` is what came and was not taken yet."""

    data: bytearray = field(factory=bytearray, init=False)
    received: int = field(default=0, init=False)
    reason: Failure | None = field(default=None, init=False)
    _waiting: list[tuple[Callable[[], bool], Deferred[None]]] = field(factory=list, init=False)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        self.data += data
        self._check()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self._check()

    def _check(self) -> None:
        for waiting in list(self._waiting):
            condition, waiter = waiting
            met = condition()
            if met or self.reason is not None:
                self._waiting.remove(waiting)
                waiter.callback(None) if met else waiter.errback(Gone())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until ``condition`` holds."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append((condition, waiter))
        self._check()
        await waiter

    async def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        await self.until(lambda: len(self.data) >= count)
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    async def head(self) -> bytes:
        """What came up to the next empty line, and that too."""
        await self.until(lambda: b"\r\n\r\n" in self.data)
        return await self.take(self.data.index(b"\r\n\r\n") + 4)

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: its head, and its body without chunked framing."""
        head = await self.head()
        if re.search(rb"(?im)^transfer-encoding: *chunked", head):
            await self.until(lambda: b"0\r\n\r\n" in self.data)
            raw = await self.take(self.data.index(b"0\r\n\r\n") + 5)
            body = b""
            while not raw.startswith(b"0\r\n"):
                size, _, raw = raw.partition(b"\r\n")
                body, raw = body + raw[: int(size, 16)], raw[int(size, 16) + 2 :]
            return head, body
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        return head, await self.take(int(length[1]) if length else 0)

    async def gone(self) -> Failure:
        """Waits for the end of the connection; how it ended."""
        await self.until(lambda: self.reason is not None)
        assert self.reason is not None
        return self.reason

    def send(self, *data: bytes) -> None:
        self.transport.writeSequence(data)

    async def sent(self) -> None:
        """Waits until the kernel has all that was to be sent."""
        await eventually(lambda: not self.transport.dataBuffer and not self.transport._tempDataLen)

    def close(self) -> None:
        self.transport.loseConnection()

    def reset(self) -> None:
        self.transport.abortConnection()

    def pause(self) -> None:
        self.transport.pauseProducing()

    def resume(self) -> None:
        self.transport.resumeProducing()


@implementer(IHalfCloseableProtocol)
class Stubborn(Peer):
    """Goes on when the other side has closed its half of the connection."""

    def readConnectionLost(self) -> None:
        pass

    def writeConnectionLost(self) -> None:
        pass


Script = Callable[[Peer], Awaitable[None]]


@define(eq=False, slots=False)
class ScriptedServer(Factory):
    """Plays ``scripts`` on the connections in the order they come in, the last one again and again."""

    noisy = False
    scripts: tuple[Script, ...]
    peers: list[Peer] = field(factory=list, init=False)
    port: IListeningPort = field(init=False)

    def buildProtocol(self, addr: object) -> Peer:
        peer = Peer()
        script = self.scripts[min(len(self.peers), len(self.scripts) - 1)]
        self.peers.append(peer)
        reactor.callLater(0, self._play, script, peer)
        return peer

    def _play(self, script: Script, peer: Peer) -> None:
        done = ensureDeferred(script(peer))
        done.addErrback(lambda failure: failure.trap(Gone, CancelledError))

    @property
    def number(self) -> int:
        return self.port.getHost().port

    async def stop(self) -> None:
        await self.port.stopListening()
        for peer in self.peers:
            if peer.reason is None:
                peer.reset()
                await peer.gone()


def listen(*scripts: Script, interface: str = "127.0.0.1") -> ScriptedServer:
    server = ScriptedServer(scripts)
    server.port = reactor.listenTCP(0, server, interface=interface)
    return server


async def pause(seconds: float = 0) -> None:
    """Lets the reactor turn."""
    turn: Deferred[None] = Deferred()
    reactor.callLater(seconds, turn.callback, None)
    await turn


async def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Waits until ``condition`` holds, and fails if it does not."""
    deadline = reactor.seconds() + seconds
    while not condition():
        assert reactor.seconds() < deadline, "it never came about"
        await pause(0.002)


async def settled(value: Callable[[], _T]) -> _T:
    """Waits until ``value`` is another no more, for 0.2 s and 20 turns of the reactor; what it is then."""
    found, turns = value(), 0
    while turns < 20:
        await pause(0.01)
        now = value()
        found, turns = now, turns + 1 if now == found else 0
    return found
