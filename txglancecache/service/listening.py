"""Where the sites listen, judged before anything does.

A Twisted endpoint string says it in many ways, and shows whether it works only by listening. Here an
endpoint is asked to listen on a reactor that merely notes the address, so that a wrong string, a port in
use and a management site that the network could reach are found out while nothing has been opened yet.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from attrs import define, field, frozen
from OpenSSL.crypto import X509
from OpenSSL.SSL import OP_NO_TICKET, VERIFY_PEER
from twisted.internet import unix
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from txglancecache.errors import ConfigurationError

_UnixPort: Any = unix.Port

#: The endpoints that can be asked where they would listen without doing anything else. A plugin's kind
#: of endpoint may do whatever it likes; it is only known to work when it listens.
_KNOWN = frozenset({"tcp", "tcp6", "ssl", "tls", "unix", "systemd", "haproxy"})

#: How many connections may wait to be accepted, unless an endpoint says how many. If more come at once, their
#: clients lose a second or more. The kernel has a limit of its own.
_BACKLOG = 4096


@frozen
class Inet:
    """A TCP port; an empty host is every address."""

    host: str
    port: int

    @property
    def _family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def is_private(self) -> bool:
        """Whether only this machine can connect to it."""
        if not self.host:
            return False
        try:
            found = socket.getaddrinfo(self.host, None, family=self._family)
        except OSError:
            return False
        return all(_is_loopback(str(address[0])) for *_, address in found)

    def try_to_bind(self) -> None:
        """Raise OSError where listening would."""
        if self.port != 0:
            with socket.socket(self._family) as probe:
                # As Twisted does it: a listening socket is in the way, a connection that lingers is not.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self.host, self.port))


@frozen
class Unix:
    """A socket in the file system, or an abstract one."""

    path: str
    locked: bool

    def is_private(self) -> bool:
        """Whether only this machine can connect to it."""
        return True

    def try_to_bind(self) -> None:
        """Raise OSError where listening would."""
        if self.path.startswith("\0"):
            return
        folder = os.path.dirname(os.path.abspath(self.path))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(f"{folder} is not a directory that can be written to")
        if os.path.lexists(self.path) and not self._is_stale():
            raise OSError("Address already in use")

    def _is_stale(self) -> bool:
        """Whether Twisted is going to clear it away: a socket whose process left only its lock behind.

        Twisted's own test of the lock takes it away, and with it the reason to clear the socket away.
        """
        if not self.locked or not stat.S_ISSOCK(os.lstat(self.path).st_mode):
            return False
        try:
            os.kill(int(os.readlink(self.path + ".lock")), 0)
        except ProcessLookupError:
            return True
        except (OSError, ValueError):
            return False
        return False


@frozen
class Inherited:
    """A listening socket that the process was started with."""

    name: Any = field(repr=False)
    family: int

    def is_private(self) -> bool:
        """Whether only this machine can connect to it."""
        return self.family == socket.AF_UNIX or _is_loopback(self.name[0])

    def try_to_bind(self) -> None:
        """It is bound already."""


Place = Inet | Unix | Inherited


@frozen
class Listener:
    """A way to listen. ``place`` is None, and ``encrypted`` False, where it cannot be told beforehand."""

    description: str
    endpoint: IStreamServerEndpoint
    place: Place | None
    encrypted: bool = False

    def refuse_if_in_use(self) -> None:
        """:raises ConfigurationError: this is not going to work."""
        if self.place is None:
            return
        try:
            self.place.try_to_bind()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(f"cannot listen on {self.description}: {reason}") from None

    def refuse_if_public(self) -> None:
        """:raises ConfigurationError: somebody beyond this machine could connect, or that is not certain."""
        if self.place is None or not self.place.is_private():
            raise ConfigurationError(
                f"the management site may not listen on {self.description}: it asks nobody who they are, "
                "so it needs a loopback address, such as tcp:9394:interface=127.0.0.1, or a unix socket; or "
                "see --manage-auth"
            )

    def refuse_if_plain(self) -> None:
        """:raises ConfigurationError: no client could show a certificate here."""
        if not self.encrypted:
            raise ConfigurationError(
                f"nobody can show a certificate on {self.description}: it needs TLS, such as "
                "ssl:9394:privateKey=FILE:certKey=FILE"
            )

    def refuse_to_share(self, other: Listener) -> None:
        """:raises ConfigurationError: both want the same port."""
        here, there = self.place, other.place
        if isinstance(here, Inet) and isinstance(there, Inet):
            shared = here.port == there.port != 0 and (here.host == there.host or _is_any(here, there))
        else:
            shared = here is not None and here == there
        if shared:
            raise ConfigurationError(f"cannot listen on {self.description} and {other.description} at once")


def listener(reactor: Any, description: str, authorities: Sequence[X509] = ()) -> Listener:
    """What an endpoint string means.

    :param authorities: who vouches for the certificates of clients. None: no client is asked for one.
    :raises ConfigurationError: nothing that could be listened on.
    """
    try:
        asked = None if "backlog=" in description else _BACKLOG
        endpoint = _endpoint(_Listening(reactor, asked, authorities), description)
        return Listener(description, endpoint, *_survey(description))
    except Exception as error:  # whatever an endpoint's parser makes of a wrong argument
        raise ConfigurationError(f"cannot listen on {description!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # A TypeError names the parser's function, which is nothing to the operator.
    return text.partition("() ")[2] or text if isinstance(error, TypeError) else text


def _endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    return endpoint


def _survey(description: str) -> tuple[Place | None, bool]:
    """Where this listens, and whether it is TLS that is spoken there."""
    if description.partition(":")[0].lower() not in _KNOWN:
        return None, False
    surveyor = _Surveyor()
    listening: Deferred[Any] = _endpoint(surveyor, description).listen(ServerFactory())
    failures: list[Failure] = []
    listening.addErrback(lambda failure: failures.append(failure) if not failure.check(_Surveyed) else None)
    if failures:
        failures[0].raiseException()
    return surveyor.place, surveyor.encrypted


@define(eq=False)
class _Surveyor:
    """A reactor that notes where it is asked to listen and listens nowhere."""

    place: Place | None = None
    encrypted: bool = False

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> NoReturn:
        self.place = Inet(interface, port)
        raise _Surveyed

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> NoReturn:
        contextFactory.getContext()  # which fails when key and certificate do not fit
        self.place = Inet(interface, port)
        self.encrypted = True
        raise _Surveyed

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> NoReturn:
        self.place = Unix(address, bool(wantPID))
        raise _Surveyed

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> NoReturn:
        with socket.socket(addressFamily, socket.SOCK_STREAM, fileno=os.dup(fileDescriptor)) as inherited:
            self.place = Inherited(inherited.getsockname(), addressFamily)
        raise _Surveyed


class _InheritedUnixPort(_UnixPort):  # type: ignore[misc]  # next to nothing of it has types
    """A unix socket that somebody else listens on, too, and has set the permissions of.

    Twisted lets everybody in at its start, and at its end shuts the socket down and removes its file.
    """

    _shouldShutdown = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.backlog = _BACKLOG
        # Taken for a name that is in no file system, where there is nothing to be seen to.
        self._bindPath: bytes = b"\0" + self._bindPath


@frozen
class _Listening:
    """A reactor whose ports are what an endpoint string has no word for, or a default that does not do.

    TLS ports ask clients for a certificate, if there are ``authorities``. A client may have none: what it may
    do then is for the site to say. One that nobody vouches for, or that has expired, ends the connection.

    :param backlog: how many connections may wait to be accepted; None: as many as the endpoint says.
    """

    _reactor: Any
    _backlog: int | None
    _authorities: Sequence[X509]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        return self._reactor.listenTCP(port, factory, self._backlog or backlog, interface)

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> Any:
        return self._reactor.listenUNIX(address, factory, self._backlog or backlog, mode, wantPID)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        if addressFamily != socket.AF_UNIX:
            return self._reactor.adoptStreamPort(fileDescriptor, addressFamily, factory)
        port = _InheritedUnixPort._fromListeningDescriptor(self._reactor, fileDescriptor, factory)
        port.startListening()
        return port

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        if self._authorities:
            self._ask_for_certificates(contextFactory)
        return self._reactor.listenSSL(port, factory, contextFactory, self._backlog or backlog, interface)

    def _ask_for_certificates(self, contextFactory: Any) -> None:
        # There is one context for all connections, and none of them has come about yet.
        context = contextFactory.getContext()
        store = context.get_cert_store()
        for authority in self._authorities:
            store.add_cert(authority)
            context.add_client_ca(authority)
        context.set_verify(VERIFY_PEER)
        # A resumed session would not be verified again.
        context.set_options(OP_NO_TICKET)


class _Surveyed(Exception):
    """The endpoint is told that it does not listen, so that it keeps what it would listen with."""


def _is_loopback(address: str) -> bool:
    with suppress(ValueError):
        ip = ipaddress.ip_address(address.partition("%")[0])
        return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
    return False


def _is_any(*places: Inet) -> bool:
    return any(place.host in ("", "0.0.0.0", "::") for place in places)  # noqa: S104 (compared, not bound to)
