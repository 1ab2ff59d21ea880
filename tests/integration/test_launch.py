"""`twistd glancecache` as a process: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import signal
import socket
import sqlite3
import ssl
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.ports import LOOPBACK
from tests.integration.launching import NOWHERE, PATIENCE, Launch, UnixConnection, exists, listens
from tests.unit.certificates import write_certificate
from txglancecache.service.options import OPTIONS, flag

BEGINNING, END = b"a" * 1000, b"z" * 1000


class SlowOrigin:
    """An origin that sends half of every answer, and the rest when it may go on."""

    def __init__(self, pem: Path | None = None) -> None:
        self.go_on = threading.Event()
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(BEGINNING + END)))
                self.end_headers()
                self.wfile.write(BEGINNING)
                origin.go_on.wait(PATIENCE)
                with contextlib.suppress(OSError):
                    self.wfile.write(END)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._scheme = "http" if pem is None else "https"
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> SlowOrigin:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *about: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    launch = Launch(tmp_path)
    yield launch
    launch.clean_up()


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Launch]:
    (tmp_path / "another").mkdir()
    launch = Launch(tmp_path / "another")
    yield launch
    launch.clean_up()


def refused(launch: Launch, *flags: str, daemon: bool = False) -> str:
    """What a command that must not start says: one line, beginning with who says it."""
    done = launch.run(*flags, daemon=daemon)
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    assert done.stderr.startswith("twistd glancecache: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("\n")
    assert not launch.pid_file.exists()
    assert not listens(launch.data_port)
    assert not listens(launch.manage_port)
    return done.stderr.removeprefix("twistd glancecache: ").rstrip("\n")


def test_help(launch: Launch) -> None:
    """`--help` shows every flag with its default, and how to begin."""
    done = launch.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name, opt in OPTIONS.items():
        assert f"\n  {flag(name)} {opt.metavar}\n" in done.stdout
    assert "[10GiB]" in done.stdout
    assert "--config-file FILE" in done.stdout
    assert "twistd -n glancecache --origin http://glance:9292 --cache-dir" in done.stdout


def test_origin_with_an_underscore(launch: Launch) -> None:
    """Such names are no host names, strictly, and still what many containers are called."""
    launch.start(*launch.flags(origin="http://glance_api:9292"))
    assert launch.ask("GET", "/cache")[1]["origin"] == "http://glance_api:9292"


@pytest.mark.parametrize("wanted", ["yes", "no"])
def test_access_log(launch: Launch, wanted: str) -> None:
    """A line for each answer, unless nobody wants them."""
    launch.start(*launch.flags(access_log=wanted))
    launch.ask("GET", "/cache/images")
    assert launch.stop() == (0, "")
    assert ('"GET /cache/images HTTP/1.1" 200' in launch.log()) == (wanted == "yes")
    assert "Listening on" in launch.log()


def test_version(launch: Launch) -> None:
    """`--version` tells this package's version."""
    assert launch.run("--version").stdout.startswith("txglancecache ")


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_size": "lots"}, "--max-size: 'lots' is not a size"),
        ({"cache_dir": "/proc/nonexistent/cache"}, "/proc/nonexistent/cache"),
        ({"listen": "tcp:http"}, "cannot listen on 'tcp:http'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_wrong_values(launch: Launch, changes: dict[str, str], said: str, daemon: bool) -> None:
    """What is wrong is told in one line, before anything listens and before a daemon leaves its terminal."""
    assert said in refused(launch, *launch.flags(**changes), daemon=daemon)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"origin": None}, "origin is not set: give --origin URL"),
        ({"no_such_option": "1"}, "option --no-such-option not recognized"),
        ({"manage": "tcp:9394"}, "the management site may not listen on tcp:9394"),
        ({"manage": "tcp:0:interface=0.0.0.0"}, "the management site may not listen on tcp:0"),
        ({"listen": "tcp:9:interface=192.0.2.1"}, "192.0.2.1: Cannot assign requested address"),
        (
            {"origin": "https://127.0.0.1:1", "origin_ca_file": "/nonexistent.pem"},
            "cannot use /nonexistent.pem",
        ),
        (
            {"origin": "https://127.0.0.1:1", "origin_ca_file": "/dev/null"},
            "holds no certificates in PEM form",
        ),
        ({"origin": "https://glance_api:9292"}, "no certificate can be for a host 'glance_api'"),
        ({"config_file": "/nonexistent.conf"}, "cannot read /nonexistent.conf: No such file or directory"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_more_wrong_values(launch: Launch, changes: dict[str, str | None], said: str) -> None:
    """Each way to get the command line wrong has its line."""
    assert said in refused(launch, *launch.flags(**changes))


def test_unknown_option_in_file(launch: Launch) -> None:
    """An option in the file that does not exist is refused, not ignored."""
    path = launch.directory / "node.conf"
    path.write_text("[glancecache]\nmax_sise = 1GiB\n")
    said = refused(launch, *launch.flags(config_file=str(path)))
    assert said == f"{path}: unknown option max_sise in [glancecache]; did you mean max_size?"


def test_chroot(launch: Launch) -> None:
    """A root directory that the cache directory is not in is refused."""
    command = launch.command(*launch.flags())
    command.insert(command.index("glancecache"), "--chroot=/tmp")
    launch.spawn(command)
    status, errors = launch.ended()
    assert status == 1
    assert errors.startswith("twistd glancecache: --chroot ")


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
@pytest.mark.parametrize("site", ["listen", "manage"])
def test_port_in_use(launch: Launch, site: str, daemon: bool) -> None:
    """A port that somebody else has ends the start, though the other one would be free."""
    with socket.create_server((LOOPBACK, 0)) as server:
        taken = f"tcp:{server.getsockname()[1]}:interface={LOOPBACK}"
        said = refused(launch, *launch.flags(**{site: taken}), daemon=daemon)
    assert said == f"cannot listen on {taken}: Address already in use"


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_directory_in_use(launch: Launch, another: Launch, daemon: bool) -> None:
    """A second process on the same directory does not start, and the first one does not notice."""
    launch.start()
    said = refused(another, *another.flags(cache_dir=str(launch.cache_dir), takeover_wait="0"), daemon=daemon)
    assert str(launch.cache_dir) in said
    assert "in use by another process" in said
    assert launch.answers()


def test_interrupted_while_waiting_for_the_directory(launch: Launch, another: Launch) -> None:
    """Ctrl-C ends the wait for another process, without a word."""
    launch.start()
    flags = another.flags(cache_dir=str(launch.cache_dir), takeover_wait=f"{PATIENCE:g}")
    # whoever runs these tests in the background has the signal ignored
    another.spawn(["env", "--default-signal=INT", *another.command(*flags)])
    assert another.process is not None
    assert another.process.stderr is not None
    assert "waiting" in another.process.stderr.readline()
    assert another.stop(signal.SIGINT) == (128 + signal.SIGINT, "")


def test_index_of_a_later_release(launch: Launch) -> None:
    """An index that this release does not understand is left alone, and nothing listens on top of it."""
    launch.cache_dir.mkdir()
    with contextlib.closing(sqlite3.connect(launch.cache_dir / "index.sqlite")) as index:
        index.execute("PRAGMA user_version = 999")
    launch.start(ready=False)
    status, errors = launch.ended()
    assert status == 1
    assert errors.startswith("twistd glancecache: ")
    assert "999" in errors
    assert errors.count("\n") == 1
    assert "Listening" not in launch.log()
    assert "Traceback" not in launch.log()
    with contextlib.closing(sqlite3.connect(launch.cache_dir / "index.sqlite")) as index:
        assert index.execute("PRAGMA user_version").fetchone() == (999,)


def test_life(launch: Launch) -> None:
    """It starts, tells about itself, and SIGTERM ends it with status 0 and nothing left behind."""
    launch.start(*launch.flags(max_size="3GiB"))
    status, about = launch.ask("GET", "/cache")
    assert status == 200
    assert about["origin"] == NOWHERE
    assert about["sizes"]["max_size"] == 3 * 1024**3
    assert about["entries"] == 0
    assert listens(launch.data_port)
    assert launch.pid_file.exists()
    assert launch.stop() == (0, "")
    assert not listens(launch.manage_port)
    assert not launch.pid_file.exists()
    assert "Traceback" not in launch.log()


def test_interrupt(launch: Launch) -> None:
    """Ctrl-C ends it just so."""
    launch.start()
    assert launch.stop(signal.SIGINT) == (0, "")


def test_head(launch: Launch) -> None:
    """On the wire, the answer to a HEAD says how long the body would be and has none."""
    launch.start()
    with socket.create_connection((LOOPBACK, launch.manage_port)) as client:
        client.sendall(b"HEAD /cache HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head = b"".join(iter(lambda: client.recv(65536), b""))
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: " in head
    assert head.endswith(b"\r\n\r\n")


def test_restart(launch: Launch) -> None:
    """After its end, the same command starts again at once, on the same ports and directory."""
    launch.start()
    client = http.client.HTTPConnection(LOOPBACK, launch.manage_port)
    client.request("GET", "/cache")
    client.getresponse().read()
    assert launch.stop() == (0, "")
    launch.start()
    assert launch.stop() == (0, "")


def test_idle_connections_end_at_once(launch: Launch) -> None:
    """Connections that are open but idle do not use up the grace period."""
    launch.start(*launch.flags(shutdown_grace="60"))
    kept = http.client.HTTPConnection(LOOPBACK, launch.manage_port)
    kept.request("GET", "/cache")
    kept.getresponse().read()
    with socket.create_connection((LOOPBACK, launch.data_port)) as fresh:
        time.sleep(0.2)
        began = time.monotonic()
        assert launch.stop() == (0, "")
        assert time.monotonic() - began < 30
        assert fresh.recv(1) == b""


@pytest.fixture
def origin() -> Iterator[SlowOrigin]:
    with SlowOrigin() as origin:
        yield origin


def download(launch: Launch) -> http.client.HTTPResponse:
    """A download that has begun."""
    client = http.client.HTTPConnection(LOOPBACK, launch.data_port, timeout=PATIENCE)
    client.request("GET", "/v2/slow")
    response = client.getresponse()
    assert response.read(len(BEGINNING)) == BEGINNING
    return response


def test_running_downloads_are_finished(launch: Launch, origin: SlowOrigin) -> None:
    """After a SIGTERM nobody can connect any more, a running download gets its end, and then it exits."""
    launch.start(*launch.flags(origin=origin.url))
    response = download(launch)
    assert launch.process is not None
    launch.process.send_signal(signal.SIGTERM)
    launch.until(lambda: not listens(launch.data_port))
    assert not listens(launch.manage_port)
    assert launch.process.poll() is None
    origin.go_on.set()
    assert response.read() == END
    assert launch.ended() == (0, "")


def test_grace_is_limited(launch: Launch, origin: SlowOrigin) -> None:
    """A download that does not come to its end in time is cut off, never made to look complete."""
    launch.start(*launch.flags(origin=origin.url, shutdown_grace="0.5"))
    response = download(launch)
    assert launch.stop() == (0, "")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        response.read()


def test_second_signal(launch: Launch, origin: SlowOrigin) -> None:
    """A second SIGTERM ends the grace period."""
    launch.start(*launch.flags(origin=origin.url, shutdown_grace="600"))
    response = download(launch)
    assert launch.process is not None
    launch.process.send_signal(signal.SIGTERM)
    launch.until(lambda: not listens(launch.data_port))
    assert launch.stop() == (0, "")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        response.read()


def test_file(launch: Launch) -> None:
    """Settings come from a file, and flags come before it; paths in flags are the operator's own."""
    path = launch.directory / "node.conf"
    path.write_text(
        textwrap.dedent(
            f"""\
            [glancecache]
            origin = {NOWHERE}
            listen = tcp:{launch.data_port}:interface={LOOPBACK}
            manage = tcp:{launch.manage_port}:interface={LOOPBACK}
            max_size = 1MiB
            min_free = 1MiB
            cache_dir = /nonexistent
            """
        )
    )
    launch.start("--config-file", "node.conf", "--cache-dir=cache", "--max-size", "2MiB")
    _, about = launch.ask("GET", "/cache")
    assert (about["sizes"]["max_size"], about["sizes"]["min_free"]) == (2 * 1024**2, 1024**2)
    assert (launch.cache_dir / "lock").exists()
    assert launch.stop() == (0, "")


def test_daemon(launch: Launch, another: Launch) -> None:
    """As a daemon it leaves its terminal, keeps its directory to itself, and ends on SIGTERM."""
    done = launch.run(*launch.flags(), daemon=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    launch.until(launch.answers)
    pid = launch.daemon_pid()
    assert "in use" in refused(another, *another.flags(cache_dir=str(launch.cache_dir), takeover_wait="0"))
    os.kill(pid, signal.SIGTERM)
    launch.until(lambda: not exists(pid))
    assert not launch.pid_file.exists()
    assert "Server Shut Down." in launch.log()
    assert "Traceback" not in launch.log()
    launch.start()
    assert launch.stop() == (0, "")


def test_unix_sockets(launch: Launch) -> None:
    """Both sites can be unix sockets; on one, any Host will do."""
    data, manage = launch.directory / "data.sock", launch.directory / "manage.sock"
    launch.start(*launch.flags(listen=f"unix:{data}", manage=f"unix:{manage}:mode=600"), ready=False)
    launch.until(manage.exists)
    launch.until(data.exists)
    assert manage.stat().st_mode & 0o777 == 0o600
    client = UnixConnection(manage)
    client.request("GET", "/cache", headers={"Host": "anything"})
    assert client.getresponse().status == 200
    assert launch.stop() == (0, "")
    assert not manage.exists()


def test_unix_socket_that_somebody_removed(launch: Launch) -> None:
    """Is no reason to stop in disorder: what was begun is finished, the index closed, the directory left."""
    manage = launch.directory / "manage.sock"
    launch.start(*launch.flags(manage=f"unix:{manage}"), ready=False)
    launch.until(manage.exists)
    launch.until(lambda: listens(launch.data_port))
    manage.unlink()
    assert launch.stop() == (0, "")
    assert "Cannot remove a socket" in launch.log()
    assert "Traceback" not in launch.log()


def test_unix_socket_of_a_daemon(launch: Launch, another: Launch) -> None:
    """A daemon's socket is its own: another process does not take it over, and its end takes it away."""
    manage = launch.directory / "manage.sock"
    flags = launch.flags(manage=f"unix:{manage}")
    assert launch.run(*flags, daemon=True).returncode == 0
    pid = launch.daemon_pid()
    launch.until(manage.exists)
    assert refused(another, *another.flags(manage=f"unix:{manage}")) == (
        f"cannot listen on unix:{manage}: Address already in use"
    )
    assert launch.ask("GET", "/cache", UnixConnection(manage))[0] == 200
    os.kill(pid, signal.SIGTERM)
    launch.until(lambda: not exists(pid))
    assert not manage.exists()


def test_unix_socket_after_a_crash(launch: Launch) -> None:
    """A socket that a killed process left behind is not in the way."""
    manage = launch.directory / "manage.sock"
    flags = launch.flags(manage=f"unix:{manage}")
    launch.start(*flags, ready=False)
    launch.until(manage.exists)
    launch.stop(signal.SIGKILL)
    assert manage.exists()
    launch.pid_file.unlink()
    launch.start(*flags, ready=False)
    launch.until(lambda: listens(launch.data_port))
    assert launch.ask("GET", "/cache", UnixConnection(manage))[0] == 200
    assert launch.stop() == (0, "")


def test_tls(launch: Launch) -> None:
    """A site can be served with TLS."""
    pem = write_certificate(launch.directory / "key.pem")
    manage = f"ssl:{launch.manage_port}:interface={LOOPBACK}:privateKey={pem}"
    launch.start(*launch.flags(manage=manage), ready=False)
    launch.until(lambda: listens(launch.manage_port))
    trust = ssl.create_default_context(cafile=str(pem))
    client = http.client.HTTPSConnection(LOOPBACK, launch.manage_port, context=trust)
    assert launch.ask("GET", "/cache", client)[0] == 200
    assert launch.stop() == (0, "")


def test_tls_to_the_origin(launch: Launch) -> None:
    """An https origin is believed when the given certificates vouch for it, and not otherwise."""
    pem = write_certificate(launch.directory / "key.pem")
    with SlowOrigin(pem) as origin:
        origin.go_on.set()
        launch.start(*launch.flags(origin=origin.url, origin_ca_file=str(pem)))
        assert download(launch).read() == END
        assert launch.stop() == (0, "")
        launch.start(*launch.flags(origin=origin.url))
        client = http.client.HTTPConnection(LOOPBACK, launch.data_port, timeout=PATIENCE)
        client.request("GET", "/v2/slow")
        assert client.getresponse().status == 502
        assert launch.stop() == (0, "")


def start_with(launch: Launch, server: socket.socket, domain: str) -> None:
    """Start a node that inherits the socket of its management site, as systemd does it."""
    # Descriptors are passed from 3 on, and it is said to which process.
    shell = 'exec 3<&"$1"; shift; LISTEN_PID=$$ exec "$@"'
    launch.environment = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "manage.socket"}
    command = launch.command(*launch.flags(manage=f"systemd:domain={domain}:name=manage.socket"))
    launch.spawn(["/bin/bash", "-c", shell, "bash", str(server.fileno()), *command], (server.fileno(),))


@pytest.mark.parametrize("interface", ["", LOOPBACK], ids=["any", "loopback"])
def test_inherited_socket(launch: Launch, interface: str) -> None:
    """A socket that systemd opened is taken over, but for management only if it is a loopback one."""
    with socket.create_server((interface, launch.manage_port)) as server:
        start_with(launch, server, "INET")
    if interface:
        launch.until(launch.answers)
        assert launch.stop() == (0, "")
    else:
        status, errors = launch.ended()
        assert status == 1
        assert "the management site may not listen on systemd:" in errors


def test_inherited_unix_socket(launch: Launch) -> None:
    """Keeps its permissions, and is as good as before when the node has ended: the next one takes it over."""
    path = launch.directory / "manage.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o660)
        server.listen()
        for _ in range(2):
            start_with(launch, server, "UNIX")
            launch.until(lambda: listens(launch.data_port))
            assert launch.ask("GET", "/cache", UnixConnection(path))[0] == 200
            assert path.stat().st_mode & 0o777 == 0o660
            assert launch.stop() == (0, "")
        assert path.is_socket()


PLUGIN = """
from twisted.internet import defer, task
from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

@implementer(IPlugin, IStreamServerEndpointStringParser)
class Parser:
    prefix = "broken"
    def parseStreamServer(self, reactor, when):
        return Endpoint(reactor, when)

@implementer(IStreamServerEndpoint)
class Endpoint:
    def __init__(self, reactor, when):
        self.reactor, self.when = reactor, when
    def listen(self, factory):
        if self.when == "now":
            return defer.fail(OSError(5, "out of order"))
        return task.deferLater(self.reactor, 0.1, defer.fail, OSError(5, "out of order"))

parser = Parser()
"""


@pytest.fixture
def broken(launch: Launch) -> Launch:
    """With a kind of endpoint that can only be seen not to work when it listens."""
    plugins = launch.directory / "plugins" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "broken.py").write_text(PLUGIN)
    launch.environment = {"PYTHONPATH": str(launch.directory / "plugins")}
    return launch


@pytest.mark.parametrize("when", ["now", "later"])
def test_listening_that_fails_after_all(broken: Launch, when: str) -> None:
    """What fails only when the process listens ends it too, with one line and a status."""
    broken.start(*broken.flags(listen=f"broken:{when}"), ready=False)
    status, errors = broken.ended()
    assert status == 1
    assert errors == f"twistd glancecache: cannot listen on broken:{when}: out of order\n"
    assert "Traceback" not in broken.log()
    assert not broken.pid_file.exists()


def test_listening_that_fails_in_a_daemon(broken: Launch) -> None:
    """A daemon whose start fails tells the terminal that it left."""
    done = broken.run(*broken.flags(listen="broken:now"), daemon=True)
    assert done.returncode == 1
    assert "cannot listen on broken:now: out of order" in done.stderr
    # the terminal is told first
    broken.until(lambda: "cannot listen on broken:now: out of order" in broken.log())
    broken.until(lambda: not broken.pid_file.exists())
