"""What an endpoint string means, found out without listening."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from OpenSSL.SSL import TLS_CLIENT_METHOD, Connection, Context, WantReadError
from OpenSSL.SSL import Error as SSLError
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactor

from tests.unit.authority import Authority
from tests.unit.certificates import write_certificate
from txglancecache.errors import ConfigurationError
from txglancecache.service.listening import Inet, Listener, Unix, listener


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of this machine that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def look(description: str) -> Listener:
    """The listener, from a reactor that must not have been asked for anything."""
    reactor = MemoryReactor()
    found = listener(reactor, description)
    assert [reactor.tcpServers, reactor.sslServers, reactor.unixServers] == [[], [], []]
    return found


def refused(what: Any, *args: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        what(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("description", "place", "private"),
    [
        ("tcp:9393", Inet("", 9393), False),
        ("tcp:9393:interface=0.0.0.0", Inet("0.0.0.0", 9393), False),
        ("tcp:9393:interface=192.0.2.1", Inet("192.0.2.1", 9393), False),
        ("tcp:9393:interface=127.0.0.1", Inet("127.0.0.1", 9393), True),
        ("tcp:9393:interface=127.9.9.9", Inet("127.9.9.9", 9393), True),
        ("tcp:9393:interface=localhost", Inet("localhost", 9393), True),
        ("tcp:9393:interface=no-such-name.invalid", Inet("no-such-name.invalid", 9393), False),
        ("tcp6:9393", Inet("::", 9393), False),
        ("tcp6:9393:interface=\\:\\:1", Inet("::1", 9393), True),
        ("tcp:9393:interface=\\:\\:ffff\\:127.0.0.1", Inet("::ffff:127.0.0.1", 9393), True),
        ("haproxy:tcp:9393:interface=127.0.0.1", Inet("127.0.0.1", 9393), True),
        ("unix:/run/cache.sock:mode=660", Unix("/run/cache.sock", True), True),
        ("unix:/run/cache.sock:lockfile=0", Unix("/run/cache.sock", False), True),
    ],
)
def test_places(description: str, place: Inet | Unix, private: bool) -> None:
    """Each kind of endpoint tells its address; only loopback ones and files are this machine's own."""
    found = look(description)
    assert found.place == place
    assert place.is_private() is private
    if private:
        found.refuse_if_public()
    else:
        assert refused(found.refuse_if_public).startswith(
            f"the management site may not listen on {description}: "
        )


def handshake(reactor: MemoryReactor, client: Path | None) -> str | None:
    """The subject of the certificate that a client of this reactor's TLS port has shown."""
    ((_, _, made, _, _),) = reactor.sslServers
    context = Context(TLS_CLIENT_METHOD)
    if client is not None:
        context.use_certificate_file(str(client))
        context.use_privatekey_file(str(client))
    here, there = Connection(made.getContext()), Connection(context)
    here.set_accept_state()
    there.set_connect_state()
    for side, other in ((there, here), (here, there)) * 3:
        with suppress(WantReadError):
            side.do_handshake()
        with suppress(WantReadError):
            other.bio_write(side.bio_read(1 << 16))
    shown = here.get_peer_certificate()
    return shown.to_cryptography().subject.rfc4514_string() if shown else None


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def asking(authority: Authority) -> MemoryReactor:
    """A reactor on which a TLS port asks for certificates of this authority."""
    reactor = MemoryReactor()
    pem = authority.issue("CN=localhost", server=True)
    anchors = [load_certificate(FILETYPE_PEM, authority.certificate.read_bytes())]
    found = listener(reactor, f"ssl:9394:privateKey={pem}:interface=127.0.0.1", anchors)
    assert found.place == Inet("127.0.0.1", 9394)
    found.refuse_if_plain()
    found.endpoint.listen(ServerFactory())
    return reactor


def test_client_certificates(authority: Authority) -> None:
    """A client may show a certificate that the authority has issued."""
    reactor = asking(authority)
    assert handshake(reactor, authority.issue("CN=operator")) == "CN=operator"
    assert handshake(reactor, None) is None


def test_wrong_client_certificates(authority: Authority, tmp_path: Path) -> None:
    """One that it has not issued, or whose time is up, ends the connection."""
    reactor = asking(authority)
    other = Authority(tmp_path, "authority-of-others")
    for wrong in (other.issue("CN=operator"), authority.issue("CN=operator", expired=True)):
        with pytest.raises(SSLError, match="certificate"):
            handshake(reactor, wrong)


def test_client_certificates_without_tls(authority: Authority) -> None:
    """Where no TLS is spoken nobody can show a certificate."""
    anchors = [load_certificate(FILETYPE_PEM, authority.certificate.read_bytes())]
    for description in ("tcp:9394", "unix:/run/cache.sock", "stdio:"):
        found = listener(MemoryReactor(), description, anchors)
        assert refused(found.refuse_if_plain).startswith(f"nobody can show a certificate on {description}: ")


def test_tls(tmp_path: Path) -> None:
    """A key and its certificate are read, and have to fit."""
    pem, other = write_certificate(tmp_path / "one.pem"), tmp_path / "other.pem"
    both = write_certificate(tmp_path / "two.pem").read_text()
    other.write_text(both[both.index("-----BEGIN CERTIFICATE-----") :])
    assert look(f"ssl:9393:privateKey={pem}").place == Inet("", 9393)
    mixed = f"ssl:9393:privateKey={pem}:certKey={other}"
    assert refused(look, mixed).startswith(f"cannot listen on {mixed!r}: ")


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ("", "Unknown endpoint type: ''"),
        ("9393", "Unknown endpoint type: '9393'"),
        ("carrier-pigeon:9393", "Unknown endpoint type: 'carrier-pigeon'"),
        ("tcp", "missing 1 required positional argument: 'port'"),
        ("tcp:http", "invalid literal for int() with base 10: 'http'"),
        ("tcp:9393:interfce=127.0.0.1", "got an unexpected keyword argument 'interfce'"),
        ("ssl:9393:privateKey=/nonexistent.pem", "No such file or directory: '/nonexistent.pem'"),
        ("systemd:domain=INET:index=0", "list index out of range"),
        ("systemd:domain=INET", "Specify exactly one of descriptor index or name"),
    ],
)
def test_no_endpoint(description: str, said: str) -> None:
    """A string that means nothing is refused with what is wrong with it."""
    message = refused(look, description)
    assert message.startswith(f"cannot listen on {description!r}: ")
    assert message.endswith(said)


def test_unknown_kind() -> None:
    """An endpoint that a plugin brings is not tried, and nothing is promised of it."""
    found = look("stdio:")
    assert found.place is None
    found.refuse_if_in_use()
    assert "may not listen on stdio:" in refused(found.refuse_if_public)


def test_port_in_use(taken: int) -> None:
    """A port that somebody listens on is refused; so is one on an address that is not ours, or none."""
    for interface in ("", ":interface=127.0.0.1", ":interface=localhost"):
        description = f"tcp:{taken}{interface}"
        assert refused(look(description).refuse_if_in_use) == (
            f"cannot listen on {description}: Address already in use"
        )
    assert "Cannot assign requested address" in refused(look("tcp:1:interface=192.0.2.1").refuse_if_in_use)
    assert "0-65535" in refused(look("tcp:65536").refuse_if_in_use)


def test_port_free(taken: int) -> None:
    """A free port is fine, a lingering connection is not in the way, and any port at all always is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
    accepted.close()  # the server's side closes first and lingers
    client.close()
    look(f"tcp:{port}:interface=127.0.0.1").refuse_if_in_use()
    look("tcp:0").refuse_if_in_use()


def test_trying_does_not_listen() -> None:
    """While a port is tried, nobody can connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    look(f"tcp:{port}:interface=127.0.0.1").refuse_if_in_use()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_unix_socket(tmp_path: Path) -> None:
    """A socket of a living process, or another file, is in the way; a dead process's socket is not."""
    path = tmp_path / "socket"
    lock = tmp_path / "socket.lock"
    found = look(f"unix:{path}")
    in_use = f"cannot listen on unix:{path}: Address already in use"
    found.refuse_if_in_use()
    path.write_text("a file")
    assert refused(found.refuse_if_in_use) == in_use
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert refused(found.refuse_if_in_use) == in_use
        lock.symlink_to(str(os.getpid()))
        assert refused(found.refuse_if_in_use) == in_use
        lock.unlink()
        lock.symlink_to(str(2**22 + 1))  # beyond any process id
        found.refuse_if_in_use()
        assert refused(look(f"unix:{path}:lockfile=0").refuse_if_in_use)
    assert path.exists()
    assert lock.is_symlink()


def test_unix_socket_without_a_folder() -> None:
    """A socket needs a directory to be in; an abstract one does not."""
    assert "/nonexistent is not a directory" in refused(look("unix:/nonexistent/socket").refuse_if_in_use)
    look("unix:\0abstract").refuse_if_in_use()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tcp:9393", "tcp:9393:interface=127.0.0.1"),
        ("tcp:9393:interface=127.0.0.1", "tcp:9393:interface=127.0.0.1"),
        ("tcp6:9393", "tcp:9393:interface=127.0.0.1"),
        ("unix:/run/a", "unix:/run/a:mode=600"),
    ],
)
def test_shared(one: str, other: str) -> None:
    """Both sites on one port is a mistake."""
    assert refused(look(one).refuse_to_share, look(other)) == f"cannot listen on {one} and {other} at once"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tcp:9393", "tcp:9394:interface=127.0.0.1"),
        ("tcp:0", "tcp:0"),
        ("tcp:9393:interface=192.0.2.1", "tcp:9393:interface=127.0.0.1"),
        ("tcp:9393", "unix:/run/a"),
        ("stdio:", "stdio:"),
    ],
)
def test_not_shared(one: str, other: str) -> None:
    """Different ports, or different addresses, are not."""
    look(one).refuse_to_share(look(other))
