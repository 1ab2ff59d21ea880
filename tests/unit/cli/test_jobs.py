"""`prefetch`, `verify` and `queue`, against a node over HTTP."""

from __future__ import annotations

import re

import pytest

from tests.unit.cli.conftest import Shell
from tests.unit.cli.node import GIB, JSON, UNKNOWN, A, B, C, image, job
from txglancecache.cli.commands import jobs as commands


class Step:
    """A job that begins at the first look, is half done at the second and done at the third."""

    def __init__(self, end: str = "done", error: str | None = None) -> None:
        self.end, self.error = end, error

    def __call__(self, one: JSON) -> None:
        if one["state"] == "queued":
            one.update(state="running", size=4 * GIB, started=1000.0)
        elif one["done"] == 0:
            one.update(done=2 * GIB, rate=2e8, eta=10.7)
        else:
            one.update(state=self.end, error=self.error, finished=1020.0, done=4 * GIB)


def test_prefetch(shell: Shell) -> None:
    """Images are queued in one request, and their jobs shown."""
    lines = shell.ok("prefetch", A, B, "--priority", "5").splitlines()
    assert shell.node.bodies == [{"images": [A, B], "priority": 5}]
    assert lines[0].split()[:5] == ["JOB", "KIND", "IMAGE", "STATE", "PROGRESS"]
    assert lines[1].split() == ["1", "prefetch", A, "queued", "-", "-", "-", "5"]


def test_prefetch_unknown(shell: Shell) -> None:
    """An image that Glance does not know keeps none of the others from being queued."""
    done = shell.run("prefetch", A, UNKNOWN, "--format", "json")
    assert done.code == 3
    assert [one["image_id"] for one in done.json["jobs"]] == [A]
    assert done.json["failed"] == [{"id": UNKNOWN, "error": "Glance knows no such image"}]
    assert done.err == f"txglancecache: {UNKNOWN}: Glance knows no such image\n"


def test_beginnings(shell: Shell) -> None:
    """The beginning of an id stands for an image that is cached, in part for instance; others need the
    whole of it."""
    shell.node.images[A] = image(A, GIB, 1)
    assert A in shell.ok("prefetch", "3f2a")
    done = shell.run("prefetch", "77b0")
    assert done.code == 3
    assert "needs its whole id" in done.err
    assert len(shell.node.jobs) == 1


def test_many(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """More images than a request may name are queued in several."""
    monkeypatch.setattr(commands, "_MOST", 2)
    shell.ok("prefetch", A, B, C)
    assert [body["images"] for body in shell.node.bodies] == [[A, B], [C]]


def test_wait_in_a_script(shell: Shell) -> None:
    """Without a terminal each change of state is a line, and the jobs are shown in the end."""
    shell.node.work = Step()
    done = shell.run("prefetch", A, "--wait")
    assert done.code == 0
    assert done.err.splitlines() == [
        f"txglancecache: {A}: queued",
        f"txglancecache: {A}: running",
        f"txglancecache: {A}: done, 4 GiB in 20 s",
    ]
    assert done.out.splitlines()[1].split()[:6] == ["1", "prefetch", A, "done", "100", "%"]


def test_wait_on_a_terminal(shell: Shell) -> None:
    """On a terminal there is a bar for each image, drawn again in its place."""
    shell.node.work = Step()
    shell.environ["COLUMNS"] = "81"
    done = shell.run("prefetch", A, B, "--wait", tty=True)
    assert (done.code, done.out) == (0, "")
    assert "3f2a9c1e  █████████░░░░░░░░░░   50 %       2 GiB of 4 GiB   190.7 MiB/s     0:11\n" in done.err
    assert "\x1b[2F\x1b[2K3f2a9c1e  done, 4 GiB in 20 s\n\x1b[2K3f2b0000  done" in done.err
    shown = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.err)
    assert max(map(len, shown.splitlines())) <= 80


def test_wait_as_json(shell: Shell) -> None:
    """The jobs as they ended."""
    shell.node.work = Step()
    done = shell.run("prefetch", A, "--wait", "--format", "json")
    assert [one["state"] for one in done.json["jobs"]] == ["done"]


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_wait_in_vain(shell: Shell, end: str) -> None:
    """A job that is not done in the end makes the command fail, and says why."""
    shell.node.work = Step(end, "the origin is gone" if end == "failed" else None)
    done = shell.run("prefetch", A, "-w")
    assert done.code == 1
    assert f"{A}: failed: the origin is gone" in done.err or f"{A}: cancelled" in done.err


def test_a_job_that_is_gone(shell: Shell) -> None:
    """A node that has forgotten a job cannot say that it was done."""
    shell.time.at_each = shell.node.jobs.clear
    done = shell.run("prefetch", A, "--wait")
    assert done.code == 1
    assert "does not know of this job any more" in done.err


def test_what_was_learnt_counts(shell: Shell) -> None:
    """A job that was seen to be done is done, though the node forgets it before the others are."""

    def work(one: JSON) -> None:
        if one["id"] == 1 or 1 not in shell.node.jobs:
            one.update(state="done", finished=1002.0)

    def forget() -> None:
        if shell.node.jobs.get(1, {}).get("state") == "done":
            del shell.node.jobs[1]

    shell.node.work, shell.time.at_each = work, forget
    done = shell.run("prefetch", A, B, "--wait", "--format", "json")
    assert done.code == 0
    assert [(one["id"], one["state"]) for one in done.json["jobs"]] == [(1, "done"), (2, "done")]


def test_waiting_for_very_many(shell: Shell) -> None:
    """They are looked for in the list; one that is no longer listed is asked for by its number, once."""
    shell.node.images = {name: image(name) for name in map(str, range(60))}
    asked: list[int] = []

    def end_some() -> None:
        waiting = [one for one in shell.node.jobs.values() if one["state"] == "queued"]
        for one in waiting[:20]:
            one["state"] = "done"
            if one["id"] % 2:
                shell.node.unlisted.add(one["id"])

    shell.time.at_each = end_some
    shell.node.work = lambda one: asked.append(one["id"])
    done = shell.run("verify", "--all", "--wait", "--format", "json")
    assert done.code == 0
    assert [one["state"] for one in done.json["jobs"]] == ["done"] * 60
    assert {one for one in asked if one <= 40} == set(range(1, 40, 2))
    assert len(asked) == len(set(asked))


def test_verify_all_drops_none(shell: Shell) -> None:
    """Where the node tells only of the first jobs the others count too, also those that are over already."""
    shell.node.images = {name: image(name) for name in (A, B, C)}
    shell.node.shown = 1

    def third_fails() -> None:
        shell.node.jobs[3].update(state="failed", error="the digest is another", finished=1002.0)

    shell.node.after_queueing = third_fails
    shell.node.work = lambda one: one.update(state="done") if one["state"] == "queued" else None
    assert len(shell.run("verify", "--all", "--format", "json").json["jobs"]) == 3
    shell.node.jobs.clear()
    done = shell.run("verify", "--all", "--wait", "--format", "json")
    assert done.code == 1
    assert [one["state"] for one in done.json["jobs"]] == ["done", "done", "failed"]


def test_verify_goes_on(shell: Shell) -> None:
    """An image that cannot be verified keeps none of the others from being, nor from being told."""
    shell.node.images = {A: image(A), B: image(B, held=GIB), C: image(C)}
    done = shell.run("verify", A, B, C, "--wait", "--format", "json")
    assert done.code == 1
    assert [one["image_id"] for one in done.json["jobs"]] == [A, C]
    assert done.json["failed"] == [{"id": B, "error": "the image is not complete"}]


def test_a_node_that_comes_back(shell: Shell) -> None:
    """The queue outlives a restart of the node, and so does waiting for it."""

    def restart() -> None:
        shell.node.failure = (503, b"") if shell.time.now < 10_030 else None

    shell.time.at_each = restart
    assert shell.run("prefetch", A, "--wait").code == 0


def test_a_node_that_stays_away(shell: Shell) -> None:
    """In the end it is given up."""
    shell.time.at_each = lambda: setattr(shell.node, "failure", (503, b""))
    done = shell.run("prefetch", A, "--wait")
    assert done.code == 1
    assert 10_060 < shell.time.now < 10_070


def test_interrupted(shell: Shell) -> None:
    """Ctrl-C ends the waiting and not the job."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    shell.time.at_each = interrupt
    done = shell.run("prefetch", A, "--wait")
    assert done.code == 130
    assert done.err.endswith("txglancecache: the node goes on; see: txglancecache queue\n")
    assert shell.node.jobs[1]["state"] == "queued"


def test_verify(shell: Shell) -> None:
    """One or all; with `--wait` a body that is wrong is a failure."""
    shell.node.images = {A: image(A), B: image(B)}
    assert "verify" in shell.ok("verify", "3f2a")
    assert len(shell.run("verify", "--all", "--format", "json").json["jobs"]) == 2
    assert shell.run("verify", UNKNOWN).code == 3
    assert shell.run("verify").code == 2
    assert shell.run("verify", "--all", A).code == 2
    shell.node.work = Step("failed", "the digest is another")
    done = shell.run("verify", A, "--wait")
    assert done.code == 1
    assert "failed: the digest is another" in done.err


def test_queue(shell: Shell) -> None:
    """Jobs with how far they are; `queue` alone lists them."""
    shell.node.jobs = {
        1: job(1, A, "running", size=4 * GIB, done=GIB, rate=1e8, eta=32.2),
        2: job(2, B, next_try=10_090.0, error="the origin is gone"),
        3: job(3, C, "failed", kind="verify", finished=9_940.0, error="no"),
    }
    lines = shell.ok("queue").splitlines()
    assert lines == shell.ok("queue", "list").splitlines()
    assert lines[1] == (f"  1  prefetch  {A}  running  25 % of 4 GiB  95.4 MiB/s  32 s         0")
    assert lines[2].endswith("again in 1 min 30 s: the origin is gone")
    assert lines[3].endswith("1 min ago: no")
    assert [
        one["id"] for one in shell.run("queue", "list", "--state", "failed", "--format=json").json["jobs"]
    ] == [3]
    assert shell.ok("queue", "list", "--kind", "verify").count("\n") == 2


def test_an_empty_queue(shell: Shell) -> None:
    """A person is told that there is nothing; a script gets nothing."""
    assert shell.ok("queue") == ""
    assert shell.run("queue", tty=True).err == "txglancecache: the queue is empty\n"


def test_cancel(shell: Shell) -> None:
    """Jobs by number or by image; what is over cannot be cancelled."""
    shell.node.jobs = {1: job(1, A), 2: job(2, A, kind="verify"), 3: job(3, B), 4: job(4, C, "done")}
    assert shell.ok("queue", "cancel", "3") == "cancelled 3\n"
    assert shell.ok("queue", "cancel", "3f2a") == "cancelled 1\ncancelled 2\n"
    done = shell.run("queue", "cancel", "4", "9", "--format", "json")
    assert done.code == 1
    assert done.json["failed"] == [
        {"id": "4", "error": "this job is over"},
        {"id": "9", "error": "no such job"},
    ]
    assert shell.run("queue", "cancel", "77b").code == 3
    assert shell.run("queue", "cancel").code == 2


def test_cancel_of_something_ambiguous(shell: Shell) -> None:
    """The beginning of several images' ids is none of them."""
    shell.node.jobs = {1: job(1, A), 2: job(2, B)}
    assert shell.run("queue", "cancel", "3f2").code == 2
    assert shell.ok("queue", "cancel", "-", stdin="1 3f2b") == "cancelled 1\ncancelled 2\n"


def test_cancel_all(shell: Shell) -> None:
    """All that wait."""
    shell.node.jobs = {1: job(1, A), 2: job(2, B)}
    assert shell.ok("queue", "cancel", "--all") == "cancelled 2 jobs\n"
    assert shell.run("queue", "cancel", "--all", "--format=json").json == {"cancelled": 0}


def test_whose_token(shell: Shell) -> None:
    """A prefetch carries the caller's token though the node does not ask for one; listing does not."""
    shell.environ["OS_TOKEN"] = "gAAAA"
    shell.ok("prefetch", A)
    shell.ok("queue")
    assert [headers.get("X-Auth-Token") for headers in shell.node.headers] == ["gAAAA", None]
