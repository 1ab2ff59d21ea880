"""A node is told to stop in the middle of its work; another takes its place, of this release or another."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from attrs import define, field

from tests.cloud.client import Download, after, authorized, call, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.ports import LOOPBACK
from tests.cloud.processes import Processes, environment
from tests.cloud.proxy import Proxy, ProxyMisbehaved, eventually, glancecache
from tests.cloud.relay import Relay
from tests.faults.campaign import Campaign
from tests.integration.launching import listens

AREA = "Shutdown and upgrade"
BODY = Payload(16 * MIB, seed=50)
COLD = Payload(32 * MIB, seed=51)
UPLOAD = Payload(24 * MIB, seed=52)
OCTETS = {"Content-Type": "application/octet-stream"}
#: Index files as each release made them, by the version of their schema; the last is this one's. They
#: never change.
INDEXES = {
    1: """
        CREATE TABLE entries (
            key TEXT PRIMARY KEY, origin TEXT NOT NULL, image_id TEXT NOT NULL, body TEXT NOT NULL UNIQUE,
            size INTEGER NOT NULL, algorithm TEXT NOT NULL, digest TEXT NOT NULL, checksum TEXT,
            extents TEXT NOT NULL, verified INTEGER NOT NULL, hits INTEGER NOT NULL, created REAL NOT NULL,
            last_access REAL NOT NULL, pinned INTEGER NOT NULL
        ) WITHOUT ROWID;
        """,
}
INDEXES[2] = (
    INDEXES[1]
    + """
        CREATE TABLE jobs (
            id INTEGER PRIMARY KEY, kind TEXT NOT NULL, image_id TEXT NOT NULL, state TEXT NOT NULL,
            priority INTEGER NOT NULL, created REAL NOT NULL, started REAL, finished REAL,
            attempts INTEGER NOT NULL, error TEXT
        );
        """
)
INDEXES[3] = INDEXES[2] + "ALTER TABLE entries ADD COLUMN stamp TEXT;"


@define(eq=False)
class Load:
    """Clients of every kind, all in the middle of something."""

    cloud: Cloud
    proxy: Proxy
    relay: Relay
    pool: ThreadPoolExecutor
    hits: list["Future[Download]"] = field(factory=list)
    fills: list["Future[Download]"] = field(factory=list)
    uploads: list["Future[int]"] = field(factory=list)
    streams: list["Future[bytes]"] = field(factory=list)
    cold: list[Image] = field(factory=list)
    uploaded: list[Image] = field(factory=list)
    _go_on: threading.Event = field(factory=threading.Event)
    _turn: threading.Lock = field(factory=threading.Lock)  # Glance on SQLite ends one upload at a time

    def begin(self, warm: Image, count: int) -> None:
        """`count` hits and as many misses, a quarter as many uploads, and listeners; returns when each has
        had something."""
        cloud, proxy, pool = self.cloud, self.proxy, self.pool
        token = cloud.token("alice")
        self.cold = [cloud.images.create(COLD) for _ in range(max(1, count // 4))]
        self.uploaded = [Image(cloud.images.queue(), "alice", UPLOAD) for _ in range(max(1, count // 4))]
        self.relay.hold(COLD.size // 2)
        begun = threading.Semaphore(0)
        for number in range(count):
            slow = {"rate": BODY.size / 4, "on_first_byte": begun.release}
            self.hits.append(pool.submit(proxy.download, warm, token, **slow))
            cold = self.cold[number % len(self.cold)]
            self.fills.append(pool.submit(proxy.download, cold, token, on_first_byte=begun.release))
        self.streams = [pool.submit(self._listen, begun) for _ in range(2)]
        for _ in range(2 * count + len(self.streams)):
            assert begun.acquire(timeout=60)
        for image in self.uploaded:
            self.uploads.append(pool.submit(self._upload, image, token, begun))
            assert begun.acquire(timeout=60)
            # Glance on SQLite begins one at a time, too.
            assert eventually(partial(self._is_being_uploaded, image), 30)

    def let_go(self) -> None:
        """The origin and those who upload go on."""
        self.relay.calm()
        self._go_on.set()

    def _is_being_uploaded(self, image: Image) -> bool:
        return bool(self.cloud.images.show(image)["status"] == "saving")

    def _upload(self, image: Image, token: str, begun: threading.Semaphore) -> int:
        mine: list[bool] = []

        def chunks() -> Iterator[bytes]:
            yield from UPLOAD.chunks(0, UPLOAD.size // 2)
            begun.release()
            self._go_on.wait(60)
            self._turn.acquire()
            mine.append(True)
            yield from UPLOAD.chunks(UPLOAD.size // 2)

        headers = {**OCTETS, "Content-Length": str(UPLOAD.size)}
        try:
            url = self.proxy.url + image.path
            return request("PUT", url, token=token, headers=headers, body=chunks()).status
        except (OSError, HTTPException):
            return 0
        finally:
            if mine:
                self._turn.release()

    def _listen(self, begun: threading.Semaphore) -> bytes:
        connection = HTTPConnection(LOOPBACK, self.proxy.manage_port, timeout=60)
        connection.request("GET", "/cache/events", headers={"Accept": "text/event-stream"})
        response = connection.getresponse()
        begun.release()
        with closing(connection):
            return response.read()


@contextmanager
def load(cloud: Cloud, proxy: Proxy, relay: Relay) -> Iterator[Load]:
    with ThreadPoolExecutor(200) as pool:
        loaded = Load(cloud, proxy, relay, pool)
        try:
            yield loaded
        finally:
            loaded.let_go()


def warmed(cloud: Cloud, proxy: Proxy) -> Image:
    image = cloud.images.create(BODY)
    assert proxy.download(image, cloud.token("alice")).sha512 == BODY.sha512
    proxy.until_complete(image)
    return image


def test_stopping_under_load(
    campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay
) -> None:
    """SIGTERM: who is being served is served to the end, nobody else comes in, the exit status is 0, and what
    was fetched is there the next time."""
    times, clients = campaign.scale(1, 4), campaign.scale(12, 40)
    proxy = start_proxy(authorization_ttl=0, shutdown_grace=60)
    warm = warmed(cloud, proxy)
    seen: Counter[str] = Counter()
    for _ in range(times):
        with load(cloud, proxy, relay) as loaded:
            loaded.begin(warm, clients)
            proxy.service.popen.send_signal(signal.SIGTERM)
            assert eventually(lambda: not (listens(proxy.port, 10) or listens(proxy.manage_port, 10)), 10)
            assert proxy.is_running
            loaded.let_go()
            for running in [*loaded.hits, *loaded.fills]:
                got = running.result()
                right = got.whole and got.sha512 in (BODY.sha512, COLD.sha512)
                seen["downloads finished" if right else "downloads cut short"] += 1
            for upload in loaded.uploads:
                seen[f"uploads answered with {upload.result()}"] += 1
            for image in loaded.uploaded:
                shown = cloud.images.show(image)
                assert (shown["status"], shown["os_hash_value"]) == ("active", UPLOAD.sha512), seen
            for stream in loaded.streams:
                assert b"retry:" in stream.result()
                seen["event streams ended"] += 1
            proxy.stop()  # a second SIGTERM, to a process that has nothing left to do; checks status and log
            proxy.start()
            for image in loaded.cold:
                assert proxy.entry(image)["complete"]
                again = proxy.download(image, cloud.token("alice"))
                assert (again.sha512, "hit" in again.cache_status) == (COLD.sha512, True)
                assert not relay.transfers(image.path)
    assert seen["downloads cut short"] == 0
    assert seen["uploads answered with 204"] == times * max(1, clients // 4)
    campaign.record(
        AREA, "SIGTERM under downloads, fills, uploads and event streams", times=times, clients=seen
    )


def test_stopping_at_once(campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay) -> None:
    """A second signal, either kind, ends it at once: nobody gets a body that looks whole and is not, and what
    had come is kept."""
    times, clients = campaign.scale(1, 10), campaign.scale(8, 24)
    proxy = start_proxy(authorization_ttl=0, shutdown_grace=600)
    warm = warmed(cloud, proxy)
    seen: Counter[str] = Counter()
    slowest = 0.0
    for number in range(times):
        with load(cloud, proxy, relay) as loaded:
            loaded.begin(warm, clients)
            popen = proxy.service.popen
            popen.send_signal(signal.SIGTERM)
            assert eventually(lambda: not listens(proxy.port, 10), 10)
            began = time.monotonic()
            popen.send_signal((signal.SIGTERM, signal.SIGINT)[number % 2])
            assert popen.wait(30) == 0
            slowest = max(slowest, time.monotonic() - began)
            Proxy.check_log(proxy.service)
            loaded.let_go()
            for running in [*loaded.hits, *loaded.fills]:
                got = running.result()
                assert not got.whole or got.sha512 in (BODY.sha512, COLD.sha512)
                seen["downloads whole" if got.whole else "downloads cut short"] += 1
            seen.update(
                "uploads cut short" if upload.result() != 204 else "uploads whole"
                for upload in loaded.uploads
            )
            proxy.start()
            for image in loaded.cold:
                held = proxy.entry(image)["bytes_on_disk"]
                assert held >= COLD.size // 2 - MIB
                assert proxy.download(image, cloud.token("alice")).sha512 == COLD.sha512
                assert relay.moved(image.path) == COLD.size - held
    assert seen["downloads cut short"] > 0
    seen["s until it was gone, at most"] = round(slowest + 0.5)
    campaign.record(AREA, "A second SIGTERM or SIGINT under the same", times=times, clients=seen)


# Sockets that outlive the process


@define(eq=False)
class Supervisor:
    """What systemd does with a socket unit: it opens the sockets, and gives them to one process after the
    other."""

    origin: str
    directory: Path
    log: Path
    data: socket.socket = field(factory=lambda: socket.create_server((LOOPBACK, 0), backlog=4096))
    manage: socket.socket = field(factory=lambda: socket.create_server((LOOPBACK, 0), backlog=4096))
    told: socket.socket = field(factory=lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    processes: "list[subprocess.Popen[bytes]]" = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.told.bind(str(self.directory / "notify"))
        self.told.settimeout(60)

    def start(self, *flags: str) -> "subprocess.Popen[bytes]":
        """A process that has both sockets."""
        command = glancecache(
            origin=self.origin,
            listen="systemd:domain=INET:name=data",
            manage="systemd:domain=INET:name=manage",
            cache_dir=self.directory / "cache",
            shutdown_grace=30,
            takeover_wait=60,
        )
        shell = 'exec 3<&"$1" 4<&"$2"; shift 2; LISTEN_PID=$$ exec "$@"'
        fds = (self.data.fileno(), self.manage.fileno())
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                ["/bin/bash", "-c", shell, "bash", *map(str, fds), *map(str, command)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                env=environment(
                    {
                        "LISTEN_FDS": "2",
                        "LISTEN_FDNAMES": "data:manage",
                        "NOTIFY_SOCKET": str(self.directory / "notify"),
                    }
                ),
                cwd=self.directory,
            )
        self.processes.append(process)
        return process

    def until_told(self, state: bytes) -> None:
        assert self.told.recv(100) == state

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for opened in (self.data, self.manage, self.told):
            opened.close()


@pytest.fixture
def supervisor(processes: Processes, cloud: Cloud, tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(cloud.glance.url, tmp_path, processes.logs / "supervised.log")
    yield supervisor
    supervisor.close()


def knock(port: int, method: str, path: str, headers: dict[str, str]) -> str:
    """One short connection, and what its client makes of it."""
    try:
        connection = HTTPConnection(LOOPBACK, port, timeout=60)
        with closing(connection):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            response.read()
            return f"answered with {response.status}"
    except ConnectionRefusedError:
        return "refused"
    except (ConnectionError, HTTPException):  # RemoteDisconnected is both
        return "reset"
    except TimeoutError:
        return "left waiting"


def stop_then_start(supervisor: Supervisor, old: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    """What `systemctl restart` does."""
    old.send_signal(signal.SIGTERM)
    supervisor.until_told(b"STOPPING=1")
    assert old.wait(60) == 0
    return supervisor.start()


def start_then_stop(supervisor: Supervisor, old: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    """What a supervisor of two does: the new one is there before the old one is told to go."""
    new = supervisor.start()
    time.sleep(2)
    assert new.poll() is None
    old.send_signal(signal.SIGTERM)
    supervisor.until_told(b"STOPPING=1")
    assert old.wait(60) == 0
    return new


@pytest.mark.parametrize(
    ("succeed", "what"),
    [
        (stop_then_start, "stopped, then started, on sockets of systemd's"),
        (start_then_stop, "started while the old process runs, on the same sockets"),
    ],
    ids=["restart", "overlap"],
)
def test_handing_over(
    succeed: "Callable[[Supervisor, subprocess.Popen[bytes]], subprocess.Popen[bytes]]",
    what: str,
    campaign: Campaign,
    supervisor: Supervisor,
    cloud: Cloud,
) -> None:
    """A process takes another's place, and of all who connect meanwhile nobody is refused or reset."""
    if succeed is not stop_then_start:
        campaign.whole_only()
    times = campaign.scale(1, 6)
    image = cloud.images.create(Payload(MIB, seed=53))
    data, manage = supervisor.data.getsockname()[1], supervisor.manage.getsockname()[1]
    old = supervisor.start()
    supervisor.until_told(b"READY=1")
    head = authorized(cloud.token("alice"))
    kinds = [
        (data, "GET", image.path, head),
        (data, "HEAD", image.path, head),
        (data, "GET", "/healthcheck", {}),
        (manage, "GET", "/cache/health", {}),
    ]
    over = threading.Event()

    def keep_knocking(kind: tuple[int, str, str, dict[str, str]]) -> Counter[str]:
        heard: Counter[str] = Counter()
        while not over.is_set():
            heard[knock(*kind)] += 1
            time.sleep(0.005)
        return heard

    seen: Counter[str] = Counter()
    with ThreadPoolExecutor(12) as pool:
        knocking = [pool.submit(keep_knocking, kind) for kind in kinds * 3]
        try:
            for _ in range(times):
                time.sleep(0.5)
                old = succeed(supervisor, old)
                supervisor.until_told(b"READY=1")
            time.sleep(0.5)
        finally:
            over.set()
        for heard in knocking:
            seen += heard.result()
    old.send_signal(signal.SIGTERM)
    assert old.wait(60) == 0
    text = supervisor.log.read_text()
    assert not re.search(r"Traceback|Unhandled|#critical\]", text), text[-3000:]
    assert set(seen) == {"answered with 200"}, seen
    assert seen["answered with 200"] > 10 * times
    campaign.record(AREA, f"A node {what}", times=times, clients=seen)


# Other releases' indexes


def index_of(version: int, proxy: Proxy, changes: str = "") -> Path:
    """Put an index of another release's making in place of the node's, with the same rows as far as that
    release had them."""
    path = proxy.cache_dir / "index.sqlite"
    rows = {}
    with closing(sqlite3.connect(path)) as database:
        for table in ("entries", "jobs"):
            rows[table] = database.execute(f"SELECT * FROM {table}").fetchall()
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(INDEXES[version])
        for table, found in rows.items():
            if found and f"CREATE TABLE {table}" in INDEXES[version]:
                width = len(database.execute(f"PRAGMA table_info({table})").fetchall())
                marks = ", ".join("?" * width)
                database.executemany(f"INSERT INTO {table} VALUES ({marks})", [row[:width] for row in found])
        database.execute(f"PRAGMA user_version = {version}")
    return path


@pytest.mark.parametrize("version", sorted(INDEXES))
def test_an_older_index(
    version: int, campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay
) -> None:
    """What an earlier release kept, whole or in part, pinned or not, is kept by this one, and its queue;
    so is what this one kept."""
    if version != min(INDEXES):
        campaign.whole_only()
    proxy = start_proxy(authorization_ttl=0)
    token = cloud.token("alice")
    whole, part = warmed(cloud, proxy), cloud.images.create(COLD)
    call("PUT", f"{proxy.manage_url}/cache/images/{whole.id}/pin")
    relay.hold(COLD.size // 2)
    proxy.download(part, token, leave=after(MIB))
    proxy.until_holds(part, COLD.size // 2 - MIB)
    call("POST", f"{proxy.manage_url}/cache/images/{whole.id}/verify")
    proxy.until(lambda: bool(_jobs(proxy)) and _jobs(proxy)[0]["state"] == "done", "a job that is done")
    before = proxy.images()
    proxy.stop()
    path = index_of(version, proxy)
    proxy.start()
    after_it = proxy.images()
    kept = ("size", "digest", "created", "hits", "pinned", "complete", "bytes_on_disk")
    assert set(after_it) == {whole.id, part.id}
    for found, was in ((after_it[image.id], before[image.id]) for image in (whole, part)):
        if not was["complete"]:
            was = {**was, "bytes_on_disk": found["bytes_on_disk"]}
            assert found["bytes_on_disk"] >= COLD.size // 2 - MIB
        assert {name: found[name] for name in kept} == {name: was[name] for name in kept}
    assert [job["state"] for job in _jobs(proxy)] == (["done"] if version > 1 else [])
    held = after_it[part.id]["bytes_on_disk"]
    relay.calm()
    outcomes = []
    for image, payload in ((whole, BODY), (part, COLD)):
        got = proxy.download(image, token)
        assert got.sha512 == payload.sha512
        outcomes.append("whole, as far as it was kept from disk")
    assert (relay.moved(whole.path), relay.moved(part.path)) == (0, COLD.size - held)
    call("POST", f"{proxy.manage_url}/cache/images/{whole.id}/verify")
    proxy.until(lambda: _jobs(proxy)[-1]["state"] == "done", "a job in the new table")
    proxy.stop()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone()[0] == max(INDEXES)
    campaign.record(
        AREA, f"An index of schema version {version} found at the start", times=1, clients=outcomes
    )


def _jobs(proxy: Proxy) -> list[dict[str, object]]:
    found: list[dict[str, object]] = call("GET", f"{proxy.manage_url}/cache/jobs").json()["jobs"]
    return found


def test_a_later_index(campaign: Campaign, start_proxy: ProxyFactory, cloud: Cloud, relay: Relay) -> None:
    """After a downgrade the start is refused in one line that says what to do, nothing is changed, and doing
    that keeps every whole body."""
    proxy = start_proxy(authorization_ttl=0)
    image = warmed(cloud, proxy)
    proxy.stop()
    path = proxy.cache_dir / "index.sqlite"
    with closing(sqlite3.connect(path)) as database:
        # whatever a later release may do
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("ALTER TABLE entries ADD COLUMN flavour TEXT")
        database.execute("PRAGMA user_version = 999")
        database.commit()
    before = {file: file.read_bytes() for file in proxy.cache_dir.rglob("*") if file.is_file()}
    command = glancecache(
        origin=relay.url, listen="tcp:0", manage="tcp:0:interface=127.0.0.1", cache_dir=proxy.cache_dir
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode not in (0, None)
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith(f"twistd glancecache: {path} has schema version 999")
    assert "Traceback" not in done.stdout
    assert before == {file: file.read_bytes() for file in proxy.cache_dir.rglob("*") if file.is_file()}
    with pytest.raises(ProxyMisbehaved):
        _ = proxy.service
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    relay.calm()
    proxy.start()
    proxy.until_complete(image)
    got = proxy.download(image, cloud.token("alice"))
    assert got.sha512 == BODY.sha512
    assert relay.moved(image.path) == 0
    campaign.record(
        AREA,
        "An index of a later release found at the start",
        times=1,
        clients=[f"start refused, status {done.returncode}", "index deleted as told: image still there"],
    )


# The units


@pytest.mark.skipif(
    not os.access("/usr/bin/systemd-analyze", os.X_OK), reason="needs systemd-analyze (systemd)"
)
def test_units(tmp_path: Path) -> None:
    """systemd finds nothing wrong with the units in etc/systemd."""
    units = Path(__file__).parents[2] / "etc" / "systemd"
    for unit in units.iterdir():
        text = unit.read_text().replace("/opt/txglancecache/bin/twistd", str(glancecache()[0]))
        (tmp_path / unit.name).write_text(text)
    names = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
