"""Who is let in, and who is told to come back later."""

from __future__ import annotations

import pytest

from tests.unit.clients.site import GET, Server
from txglancecache.clients.limits import Limits
from txglancecache.clients.site import TURNED_AWAY


def test_no_more_connections_than_there_may_be() -> None:
    """One more is told so, and closed if its client does not do it; there is room when another leaves."""
    server = Server(Limits(connections=2))
    first = server.connect(GET)
    server.connect(GET)
    late = server.connect()
    assert late.status == 503
    assert b"Retry-After: " in late.got
    assert b"Connection: close\r\n" in late.got
    assert late.transport.half_closed
    late.send(GET)
    server.clock.advance(5)
    assert late.transport.disconnected
    late.leave()
    assert server.told.reasons == ["connections"]
    first.leave()
    assert server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
    assert server.site.turned_away == 0


def test_a_flood_of_connections() -> None:
    """Beyond a number of those that are being told, others are closed without a word."""
    server = Server(Limits(connections=1))
    server.connect(GET)
    late = [server.connect() for _ in range(TURNED_AWAY + 5)]
    assert [client.status for client in late] == [503] * TURNED_AWAY + [None] * 5
    assert all(client.transport.disconnected for client in late[TURNED_AWAY:])
    for client in late:
        client.leave()
    assert server.connect().status == 503


def test_who_gives_way() -> None:
    """The connection that has been idle the longest; none on which something is asked or has just come."""
    server = Server(Limits(connections=3))
    busy = server.connect(GET)
    speaking = server.connect(b"GET ")
    idle = server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n")
    assert server.connect().status == 503
    server.clock.advance(1)
    fresh = server.connect()
    assert fresh.got == b""
    assert idle.transport.disconnected
    assert not busy.closed
    assert not speaking.closed
    assert server.connect().status == 503
    assert server.turnstile.connections == 3
    idle.leave()
    assert server.turnstile.connections == 3


def test_no_more_requests_of_one_client_than_there_may_be() -> None:
    """One more is refused; one of somebody else is not."""
    server = Server(Limits(requests_per_client=2))
    clients = [server.connect(GET) for _ in range(3)]
    assert [client.status for client in clients] == [None, None, 429]
    assert b"Retry-After: " in clients[2].got
    assert server.told.reasons == ["requests"]
    assert server.connect(GET, host="192.0.2.2").status is None
    server.resource.answer()
    assert server.connect(GET).status is None
    clients[1].leave()
    assert server.connect(GET).status is None
    assert server.connect(GET).status == 429


def test_one_request_after_the_other() -> None:
    """Never counts for more than one."""
    server = Server(Limits(requests_per_client=1))
    client = server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
    server.clock.advance(0)
    assert client.got.count(b"200 OK") == 5
    assert not server.turnstile._requests


def test_no_limit() -> None:
    """Is what 0 means."""
    server = Server(Limits(requests_per_client=0))
    assert {server.connect(GET).status for _ in range(3000)} == {None}


def test_clients_without_an_address() -> None:
    """Are not counted: on a unix socket there is a proxy."""
    server = Server(Limits(requests_per_client=1))
    assert {server.connect(GET, host="").status for _ in range(10)} == {None}


def test_what_is_always_answered() -> None:
    """Whoever watches over the node gets an answer, however much it has asked for."""
    server = Server(Limits(requests_per_client=1), {"is_exempt": lambda target: target == b"/now"})
    server.connect(GET)
    assert server.connect(GET).status == 429
    assert server.connect(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n").status == 200


@pytest.mark.parametrize("trusted", [True, False])
def test_clients_behind_a_proxy(trusted: bool) -> None:
    """Are told apart by what a trusted one says, and by nobody else's word."""
    server = Server(Limits(requests_per_client=1), {"is_trusted": lambda address: trusted})
    ask = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.%d\r\n\r\n"
    server.options["is_trusted"] = lambda address: trusted and address.startswith("192.0.2.")
    server.site.is_trusted = server.options["is_trusted"]
    statuses = [server.connect(ask % number).status for number in (1, 2, 2)]
    assert statuses == ([None, None, 429] if trusted else [None, 429, 429])
