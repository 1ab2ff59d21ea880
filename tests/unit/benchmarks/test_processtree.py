"""The processor time and the memory of a process and its children."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.processtree import cpu_seconds, pss, tree

_BUSY = """
import threading, time
def work():
    while time.thread_time() < {seconds}: pass
threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print("done", flush=True); time.sleep(60)
"""


@contextmanager
def _running(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_threads_that_have_ended_count() -> None:
    """Two of them, a fifth of a second each."""
    with _running(sys.executable, "-c", _BUSY.format(seconds=0.2)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert 0.4 <= cpu_seconds(process.pid) < 2


def test_children_count() -> None:
    """What a shell's child does is the shell's."""
    child = f"{sys.executable} -c '{_BUSY.format(seconds=0.2)}' & wait"
    with _running("sh", "-c", child) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        shell, *children = tree(process.pid)
        assert shell == process.pid
        assert len(children) == 1
        try:
            assert cpu_seconds(process.pid) >= 0.4
            assert pss(process.pid) > pss(children[0]) > 2**20
        finally:
            os.kill(children[0], 9)


def test_time_that_passes_does_not_count() -> None:
    """Only what was spent on a processor."""
    with _running("sleep", "10") as process:
        time.sleep(0.2)
        assert cpu_seconds(process.pid) < 0.1


def test_who_has_gone_counts_nothing() -> None:
    with _running("true") as process:
        process.wait()
    assert cpu_seconds(process.pid) == 0
    assert pss(process.pid) == 0
