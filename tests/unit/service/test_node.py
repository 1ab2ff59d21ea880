"""A node from its first breath to its last."""

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from txglancecache.errors import ConfigurationError
from txglancecache.service.draining import Connections
from txglancecache.service.listening import Listener
from txglancecache.service.node import Node

IN_USE = CannotListenError("", 9393, OSError(98, "Address already in use"))


@define(eq=False)
class Port:
    """A listening port."""

    log: list[str]
    closing: Deferred[None] = field(factory=lambda: succeed(None))

    def getHost(self) -> str:
        return "somewhere"

    def stopListening(self) -> Deferred[None]:
        self.log.append("stop listening")
        return self.closing


@implementer(IStreamServerEndpoint)
@define(eq=False)
class Endpoint:
    """Listens with the outcome that the test wants."""

    outcome: Deferred[Any]

    def listen(self, protocolFactory: object) -> Deferred[Any]:
        return self.outcome


class Channel:
    """A connection that a test opens and closes."""

    def __init__(self, world: World, busy: bool) -> None:
        self.world, self.persistent, self.requests = world, True, ["a request"] if busy else []
        self.transport = self
        world.connections._opened(cast(Any, self))

    def come_to_an_end(self) -> None:
        if not self.requests:
            self.world.log.append("close")
            self.gone()

    def abortConnection(self) -> None:
        self.world.log.append("abort")
        self.world.clock.callLater(0, self.gone)

    def gone(self) -> None:
        self.world.connections._lost(cast(Any, self))


@define(eq=False)
class World:
    """A node, and what happens around it in order."""

    clock: Clock = field(factory=Clock)
    connections: Connections = field(factory=Connections)
    log: list[str] = field(factory=list)
    ended: Deferred[None] = field(factory=lambda: succeed(None))

    def node(self, *outcomes: Deferred[Any]) -> Node:
        sites = [
            (Listener("tcp:9393", cast(IStreamServerEndpoint, Endpoint(outcome)), None), ServerFactory())
            for outcome in outcomes or (succeed(Port(self.log)),)
        ]
        return Node(
            clock=self.clock,
            sites=sites,
            connections=self.connections,
            grace=30,
            prepare=lambda: self.log.append("prepare"),
            begin=lambda: self.log.append("begin"),
            end=self.end,
            failed=self.log.append,
        )

    async def end(self) -> None:
        self.log.append("end")
        await self.ended


def running(world: World, *outcomes: Deferred[Any]) -> Node:
    node = world.node(*outcomes)
    node.privilegedStartService()
    node.startService()
    return node


def test_life() -> None:
    """It prepares itself, listens, begins, and at the end stops listening before all that is beneath ends."""
    world = World()
    stopped = running(world).stopService()
    assert stopped.called
    assert world.log == ["prepare", "begin", "stop listening", "end"]


def test_start_without_privileges() -> None:
    """Started in one step, it listens too, and only once."""
    world = World()
    node = world.node()
    node.startService()
    assert world.log == ["prepare", "begin"]
    node.stopService()
    assert world.log == ["prepare", "begin", "stop listening", "end"]


def test_port_in_use() -> None:
    """A port that cannot be bound ends the start with one line."""
    world = World()
    with pytest.raises(ConfigurationError, match=r"^cannot listen on tcp:9393: Address already in use$"):
        world.node(succeed(Port(world.log)), fail(IN_USE)).privilegedStartService()
    assert world.log == ["prepare"]


def test_endpoint_that_fails_late() -> None:
    """An endpoint that takes its time and then fails is told of in one line."""
    world = World()
    outcome: Deferred[Any] = Deferred()
    running(world, outcome)
    outcome.errback(ValueError("no\nway"))
    assert world.log == ["prepare", "begin", "cannot listen on tcp:9393: no way"]


def test_endpoint_that_succeeds_late() -> None:
    """An endpoint that takes its time is stopped like any other."""
    world = World()
    outcome: Deferred[Any] = Deferred()
    node = running(world, outcome)
    outcome.callback(Port(world.log))
    node.stopService()
    assert world.log == ["prepare", "begin", "stop listening", "end"]


def test_endpoint_that_is_not_done_yet() -> None:
    """An endpoint that still tries is told to stop, which is no failure."""
    world = World()
    node = running(world, Deferred())
    assert node.stopService().called
    assert world.log == ["prepare", "begin", "end"]


def test_ports_close_first() -> None:
    """Nothing ends while a new connection may still come."""
    world = World()
    closing: Deferred[None] = Deferred()
    node = running(world, succeed(Port(world.log, closing)))
    Channel(world, busy=False)
    node.stopService()
    assert world.log == ["prepare", "begin", "stop listening"]
    closing.callback(None)
    assert world.log == ["prepare", "begin", "stop listening", "close", "end"]


def test_grace() -> None:
    """Who is being answered gets the grace period, and the end waits for that."""
    world = World()
    node = running(world)
    client = Channel(world, busy=True)
    stopped = node.stopService()
    world.clock.advance(29)
    assert world.log == ["prepare", "begin", "stop listening"]
    client.gone()
    assert world.log == ["prepare", "begin", "stop listening", "end"]
    assert stopped.called
    assert world.clock.getDelayedCalls() == []


def test_end_of_grace() -> None:
    """When the grace period is over, who is left is cut off, and then comes the end."""
    world = World()
    node = running(world)
    Channel(world, busy=True)
    stopped = node.stopService()
    world.clock.advance(30)
    assert world.log == ["prepare", "begin", "stop listening", "abort", "end"]
    assert stopped.called
    assert world.clock.getDelayedCalls() == []


def test_hurry() -> None:
    """The grace period can be cut short, while it runs or before it begins."""
    for early in (True, False):
        world = World()
        node = running(world)
        Channel(world, busy=True)
        if early:
            node.hurry()
        node.stopService()
        if not early:
            node.hurry()
        world.clock.advance(0)
        world.clock.advance(0)
        assert world.log == ["prepare", "begin", "stop listening", "abort", "end"]


def test_hurry_when_all_is_over() -> None:
    """Haste at the end changes nothing."""
    world = World()
    node = running(world)
    node.stopService()
    node.hurry()
    assert world.log == ["prepare", "begin", "stop listening", "end"]


def test_connection_that_stays() -> None:
    """A connection that cannot even be cut off does not keep the process."""
    world = World()
    node = running(world)
    client = Channel(world, busy=True)
    client.gone = lambda: None  # type: ignore[method-assign]  # this one never goes
    node.stopService()
    world.clock.advance(30)
    world.clock.advance(5)
    assert world.log == ["prepare", "begin", "stop listening", "abort", "end"]


def test_the_end_takes_its_time() -> None:
    """The service has stopped when the end is over, not before."""
    world = World(ended=Deferred())
    stopped = running(world).stopService()
    assert not stopped.called
    world.ended.callback(None)
    assert stopped.called


def test_a_preparation_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be prepared does not listen."""
    world = World()
    node = world.node(fail(IN_USE))
    monkeypatch.setattr(node, "_prepare", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        node.privilegedStartService()


def test_an_end_that_fails() -> None:
    """An end that goes wrong is in the log, and is an end."""
    world = World(ended=fail(ZeroDivisionError()))
    with capturedLogs() as events:
        assert running(world).stopService().called
    assert [event["log_failure"].type for event in events if "log_failure" in event] == [ZeroDivisionError]
