"""What the kernel tells of real connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from twisted.internet.testing import StringTransport

from tests.cloud.proxy import eventually
from txglancecache.clients.sockets import ClientSocket, Taking


class Transport:
    """A transport as far as it is asked for its socket."""

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle

    def getHandle(self) -> socket.socket:
        return self.handle


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's end, and a client's that has little room."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listening.getsockname())
        server, _ = listening.accept()
        with server:
            server.setblocking(False)
            yield server, client


def fill(server: socket.socket) -> None:
    try:
        while True:
            server.send(bytes(1 << 16))
    except BlockingIOError:
        pass


def test_what_is_taken(pair: tuple[socket.socket, socket.socket]) -> None:
    """Grows with what the client reads."""
    server, client = pair
    found = ClientSocket.of(Transport(server))
    assert (found.untaken(), found.taken()) == (0, 0)
    fill(server)
    before = found.taken()
    assert before is not None
    assert found.untaken() > 100_000
    assert len(client.recv(100_000, socket.MSG_WAITALL)) == 100_000
    after = found.taken()
    assert after is not None
    assert after - before > 50_000


def test_whether_a_client_takes_enough(pair: tuple[socket.socket, socket.socket]) -> None:
    """It has to take so much, or all that there was for it."""
    server, client = pair
    taking = Taking(ClientSocket.of(Transport(server)), 50_000)
    assert taking.goes_on()
    assert taking.goes_on()
    server.send(b"hello")
    taking.goes_on()
    assert client.recv(5) == b"hello"
    assert eventually(lambda: not ClientSocket.of(Transport(server)).untaken())
    assert taking.goes_on()
    fill(server)
    assert taking.goes_on()
    client.recv(1000)
    assert not taking.goes_on()
    taking.goes_on()
    client.recv(200_000, socket.MSG_WAITALL)
    assert taking.goes_on()


def test_signs_of_life(pair: tuple[socket.socket, socket.socket]) -> None:
    """The kernel is told how long a client may be out of reach; but not to break a connection because its
    client takes nothing: nobody would learn why."""
    server, _ = pair
    ClientSocket.of(Transport(server)).expect_signs_of_life(30)
    assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    idle, interval, count = (server.getsockopt(socket.IPPROTO_TCP, option) for option in options)
    assert 20 <= idle + interval * count <= 30
    for seconds in (0.1, 3, 300, 10**6):
        ClientSocket.of(Transport(server)).expect_signs_of_life(seconds)
        found = server.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        assert found == 2 * max(1, min(int(seconds), 120) // 4)


def test_sockets_of_which_less_is_known() -> None:
    """A unix socket, one that is closed and none at all: nobody is taken for one who takes nothing."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        found = ClientSocket.of(Transport(one))
        found.expect_signs_of_life(1)
        fill(one)
        assert found.untaken() > 0
        assert Taking(found, 1).goes_on()
    for found in (ClientSocket.of(Transport(one)), ClientSocket.of(StringTransport())):
        found.expect_signs_of_life(1)
        assert (found.untaken(), found.taken()) == (0, None)
        assert Taking(found, 1).goes_on()
