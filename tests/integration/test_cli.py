"""`txglancecache` in a shell, against a real node in front of the real Glance and Keystone."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.identity import PASSWORD
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.ports import free_port
from tests.cloud.processes import environment
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay
from tests.integration.launching import Launch

BODY = Payload(8 * MIB, seed=40)
LARGE = Payload(48 * MIB, seed=41)
UNKNOWN = "00000000-0000-4000-8000-000000000000"
PROGRAM = Path(sys.executable).with_name("txglancecache")
PATIENCE = 60.0
COLUMNS = 100


class Shell:
    """A person's, or a script's, shell. `user`: whose OS_* variables are set in it."""

    def __init__(self, url: str, cloud: Cloud, home: Path, user: str | None = None) -> None:
        self.home = home
        who = cloud.client_environment(user) if user is not None else {}
        where = {"TXGLANCECACHE_URL": url, "HOME": str(home), "TERM": "xterm"}
        self.environ = environment({**who, **where})
        self.environ.pop("NO_COLOR", None)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *words],
            input=stdin,
            env=self.environ,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def ok(self, *words: str, stdin: str = "") -> str:
        """The output of a command that has to work and has nothing to remark."""
        done = self.run(*words, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.ok("--format", "json", *words))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *words],
            env=self.environ,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class Terminal:
    """A command on a terminal: all that it shows, and what is typed."""

    def __init__(self, shell: Shell, *words: str) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self._master = master
        self._process = subprocess.Popen(
            # What started the tests may ignore Ctrl-C, as a shell has its background jobs do.
            ["env", "--default-signal=INT", PROGRAM, *words],
            env=shell.environ,
            cwd=shell.home,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def until(self, text: str) -> None:
        """Read until this is there."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if not self._read(0.5):
                raise AssertionError(f"ended before {text!r}: {self.shown}")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; the exit status."""
        while self._read(PATIENCE):
            pass
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    def _read(self, seconds: float) -> bool:
        """Whether there may be more."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # so a terminal that nobody is left at says it
            return False
        self.shown += data.decode()
        return bool(data)


@pytest.fixture
def node(start_proxy: ProxyFactory) -> Proxy:
    """A node with nothing in its cache."""
    return start_proxy(authorization_ttl=0)


@pytest.fixture
def alice(node: Proxy, cloud: Cloud, tmp_path: Path) -> Shell:
    """The shell of somebody whom Glance knows."""
    return Shell(node.manage_url, cloud, tmp_path, "alice")


@pytest.fixture
def nobody(node: Proxy, cloud: Cloud, tmp_path: Path) -> Shell:
    """The shell of somebody without credentials."""
    return Shell(node.manage_url, cloud, tmp_path)


def prefetched(shell: Shell, *images: Image) -> None:
    done = shell.run("prefetch", "--wait", *(image.id for image in images))
    assert done.returncode == 0, done


def test_a_day_with_a_node(alice: Shell, nobody: Shell, cloud: Cloud, node: Proxy, relay: Relay) -> None:
    """Each command does to a real node what its help says."""
    first, second = cloud.images.create(BODY), cloud.images.create(LARGE)
    done = alice.run("prefetch", first.id, second.id, "--wait")
    assert done.returncode == 0, done
    assert f"{first.id}: done, 8 MiB in " in done.stderr
    assert relay.moved(first.path) == first.size
    token = cloud.token("alice")
    assert node.download(first, token).sha512 == BODY.sha512

    status = nobody.ok("status", "--check")
    assert re.search(r"^cache +56 MiB of 10 GiB in 2 images$", status, re.MULTILINE)
    assert re.search(r"^ready +yes$", status, re.MULTILINE)
    assert nobody.json("status")["counters"]["hits"] == 1

    assert sorted(nobody.ok("list", "-q").split()) == sorted([first.id, second.id])
    assert nobody.ok("list", "-q", "--sort", "size:desc", "--limit", "1") == f"{second.id}\n"
    assert re.search(rf"^{first.id}  complete +8 MiB +1 ", nobody.ok("list"), re.MULTILINE)
    shown = nobody.json("show", first.id)
    assert (shown["complete"], shown["extents"]) == (True, [[0, first.size]])
    assert f"digest     sha512:{BODY.sha512}\n" in nobody.ok("show", first.id[:13])

    assert nobody.ok("pin", first.id[:13]) == f"pinned {first.id}\n"
    assert nobody.ok("list", "-q", "--pinned") == f"{first.id}\n"
    assert nobody.ok("prune", "--to", "20MiB") == "freed 48 MiB in 1 file\n"
    assert nobody.ok("list", "-q") == f"{first.id}\n"
    assert nobody.ok("unpin", first.id) == f"unpinned {first.id}\n"
    assert nobody.run("verify", "--all", "--wait").returncode == 0
    assert nobody.ok("clean") == "freed 0 B in 0 files\n"

    jobs = nobody.json("queue")["jobs"]
    assert [(job["kind"], job["state"]) for job in jobs] == [
        ("prefetch", "done"),
        ("prefetch", "done"),
        ("verify", "done"),
    ]
    assert nobody.ok("queue", "list", "--kind", "verify").count("\n") == 2
    kinds = [event["kind"] for event in nobody.json("events")["events"]]
    assert {"fill-finished", "pinned", "unpinned", "evicted", "job-done"} <= set(kinds)

    assert nobody.ok("purge", "-", stdin=first.id) == f"purged {first.id}\n"
    assert nobody.ok("purge", "--all", "--yes") == "purged 0 images\n"
    assert nobody.ok("list") == ""


def test_what_glance_does_not_give(alice: Shell, nobody: Shell, cloud: Cloud) -> None:
    """Prefetching fails as Glance refuses, image by image; without credentials there is none."""
    good, queued = cloud.images.create(BODY), cloud.images.queue("alice")
    others = cloud.images.create(BODY, owner="bob")
    done = alice.run("--format", "json", "prefetch", good.id, UNKNOWN, queued, others.id, "--wait")
    assert done.returncode != 0
    answer = json.loads(done.stdout)
    assert [(job["image_id"], job["state"]) for job in answer["jobs"]] == [(good.id, "done")]
    assert {failure["id"] for failure in answer["failed"]} == {UNKNOWN, queued, others.id}
    assert alice.run("prefetch", UNKNOWN).returncode == 3
    assert alice.run("prefetch", queued).returncode == 1
    done = nobody.run("prefetch", cloud.images.create(BODY).id, "--wait")
    assert done.returncode == 1, done
    assert "failed: the origin answered 401" in done.stderr


def test_waiting_for_more_jobs_than_are_listed(nobody: Shell) -> None:
    """How each of them ended is told, though the list has only the latest."""
    names = [f"00000000-0000-4000-8000-{number:012}" for number in range(600)]
    done = nobody.run("prefetch", *names, "--wait", "--format", "json")
    assert done.returncode == 1
    jobs = json.loads(done.stdout)["jobs"]
    assert [job["image_id"] for job in jobs] == names
    assert all("[service_auth] names none" in job["error"] for job in jobs)
    assert len(nobody.json("queue")["jobs"]) == 200


def test_quarantine(alice: Shell, cloud: Cloud, node: Proxy) -> None:
    """A body that has rotted on disk is found, told and put aside, and can be removed."""
    image = cloud.images.create(BODY)
    prefetched(alice, image)
    (body,) = [
        path for path in node.cache_dir.rglob("*") if path.is_file() and path.stat().st_size == image.size
    ]
    with body.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"rot")
    done = alice.run("verify", image.id, "--wait")
    assert done.returncode == 1, done
    assert f"{image.id}: failed: " in done.stderr
    (file_,) = alice.json("quarantine")["files"]
    assert file_["size"] == image.size
    assert re.search(r"^quarantine +8 MiB$", alice.ok("status"), re.MULTILINE)
    assert alice.ok("quarantine", "clear", "--yes") == "freed 8 MiB in 1 file\n"
    assert alice.ok("quarantine") == ""


def test_progress(alice: Shell, cloud: Cloud, relay: Relay) -> None:
    """On a terminal a bar grows in its place until the image is there."""
    image = cloud.images.create(LARGE)
    relay.pace(6 * MIB)
    with Terminal(alice, "prefetch", image.id, "--wait") as terminal:
        terminal.until("MiB/s")
        terminal.until("done, 48 MiB in ")
        assert terminal.end() == 0
    lines = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", terminal.shown).splitlines()
    assert max(map(len, lines)) < COLUMNS
    bars = [line for line in lines if "█" in line]
    assert len(bars) > 3
    done = [int(found[1]) for line in bars if (found := re.search(r"(\d+) %", line))]
    assert done == sorted(done)
    assert 0 < done[0] < 100
    moves = re.findall(r"\x1b\[(\d+)F", terminal.shown)
    assert set(moves) == {"1"}


def test_interrupted_progress(alice: Shell, cloud: Cloud, relay: Relay, node: Proxy) -> None:
    """Ctrl-C ends the bar and not the job, which `queue` shows and can cancel."""
    image = cloud.images.create(LARGE)
    relay.pace(2 * MIB)
    relay.hold(LARGE.size - MIB)
    with Terminal(alice, "prefetch", image.id, "--wait") as terminal:
        terminal.until("MiB/s")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "the node goes on; see: txglancecache queue" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert re.search(rf"{image.id} +running +\d+ % of 48 MiB", alice.ok("queue"))
    assert re.search(
        rf"^{image.id}  filling \d+ % +48 MiB", alice.ok("list", "--state", "filling"), re.MULTILINE
    )
    shown = alice.ok("show", image.id)
    assert re.search(r"^ +█+[▒░]+$", shown, re.MULTILINE)
    assert "for 1 client" in shown or "origin " in shown
    (job,) = alice.json("queue")["jobs"]
    assert alice.ok("queue", "cancel", image.id) == f"cancelled {job['id']}\n"
    assert alice.json("queue", "list", "--state", "cancelled")["jobs"][0]["image_id"] == image.id


def test_confirmation(alice: Shell, cloud: Cloud) -> None:
    """A person at a terminal is asked before all is purged."""
    prefetched(alice, cloud.images.create(BODY))
    for typed, code, left in (("n\n", 1, 1), ("y\n", 0, 0)):
        with Terminal(alice, "purge", "--all") as terminal:
            terminal.until("[y/N] ")
            terminal.type(typed)
            assert terminal.end() == code
        assert len(alice.ok("list", "-q").split()) == left


def test_watch(alice: Shell, cloud: Cloud, node: Proxy) -> None:
    """Events are seen as they happen, over a restart of the node too."""
    image = cloud.images.create(BODY)
    prefetched(alice, image)
    latest = alice.json("events")["events"][-1]["id"]  # however long it takes to begin, it misses nothing
    watch = alice.start("watch", "--since", latest, "--format", "json", "--kind", "pinned", "--limit", "2")
    try:
        alice.ok("pin", image.id)
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["image_id"] == image.id
        node.restart()
        # It comes back by itself; until it has, events pass it by.
        deadline = time.monotonic() + PATIENCE
        while watch.poll() is None and time.monotonic() < deadline:
            alice.ok("unpin", image.id)
            alice.ok("pin", image.id)
            time.sleep(0.3)
        out, err = watch.communicate(timeout=PATIENCE)
    finally:
        if watch.poll() is None:
            watch.kill()
    assert (watch.returncode, json.loads(out)["kind"]) == (0, "pinned")
    assert "trying again" in err


def test_a_reader_that_leaves(alice: Shell, cloud: Cloud) -> None:
    """`txglancecache … | head -1` shows one line and no traceback."""
    prefetched(alice, cloud.images.create(BODY))
    command = f"'{PROGRAM}' events | head -1; '{PROGRAM}' watch --since 0 | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        env=alice.environ,
        cwd=alice.home,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout.startswith("TIME ")
    assert done.stderr == ""


def test_nobody_there(cloud: Cloud, tmp_path: Path) -> None:
    """A node that does not run is 4."""
    done = Shell(f"http://127.0.0.1:{free_port()}", cloud, tmp_path).run("status")
    assert (done.returncode, done.stdout) == (4, "")
    assert "Connection refused" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def guarded(start_proxy: ProxyFactory, cloud: Cloud) -> Proxy:
    """A node that asks Keystone who manages it."""
    return start_proxy(authorization_ttl=0, manage_auth="keystone", keystone_url=cloud.keystone.url)


@pytest.fixture
def clouds(cloud: Cloud, tmp_path: Path) -> None:
    """clouds.yaml of somebody who is several people."""
    users = {"admin": "admin", "member": "alice", "mistaken": "admin"}
    written = {}
    for name, user in users.items():
        env = cloud.client_environment(user)
        auth = {
            key: env[f"OS_{key.upper()}"]
            for key in ("auth_url", "username", "project_name", "user_domain_id", "project_domain_id")
        }
        written[name] = {"auth": {**auth, "password": "wrong" if name == "mistaken" else PASSWORD}}
    # YAML has all of JSON.
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": written}))


@pytest.mark.usefixtures("clouds")
def test_who_may(guarded: Proxy, cloud: Cloud, tmp_path: Path) -> None:
    """The token comes from OS_* variables, from clouds.yaml or from the command line; who has none, a wrong
    one or the wrong role is told."""
    nobody = Shell(guarded.manage_url, cloud, tmp_path)
    done = nobody.run("list")
    assert done.returncode == 5
    assert "asks for a Keystone token: set OS_CLOUD" in done.stderr
    assert nobody.ok("--os-cloud", "admin", "list") == ""
    assert nobody.ok("list", "--os-cloud", "admin") == ""
    assert nobody.ok("list", "--os-token", cloud.token("admin")) == ""
    assert Shell(guarded.manage_url, cloud, tmp_path, "admin").ok("list") == ""
    for words in (["--os-cloud", "member"], ["--os-cloud", "mistaken"], ["--os-token", "nonsense"]):
        done = nobody.run("list", *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (5, "", 1), done
    done = nobody.run("list", "--os-cloud", "elsewhere")
    assert done.returncode == 2
    nobody.environ["OS_CLOUD"] = "admin"
    assert "Keystone" in nobody.ok("status")


def test_unix_socket(tmp_path: Path, cloud: Cloud) -> None:
    """A node's management site may be on a unix socket."""
    socket = tmp_path / "manage"
    launch = Launch(tmp_path)
    try:
        launch.start(*launch.flags(manage=f"unix:{socket}"), ready=False)
        launch.until(socket.exists)
        shell = Shell(f"unix:{socket}", cloud, tmp_path)
        assert shell.ok("list") == ""
        assert shell.run("status", "--check").returncode == 6  # there is no origin
    finally:
        launch.clean_up()
