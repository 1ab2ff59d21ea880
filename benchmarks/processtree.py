"""What a server and all its children have used of the machine, as the kernel counts it."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = (FileNotFoundError, ProcessLookupError)


def tree(pid: int) -> Iterator[int]:
    """The process and its descendants that live."""
    yield pid
    with suppress(*_GONE):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree, to the nanosecond; threads and children that have ended included."""
    total = 0.0
    for member in tree(pid):
        with suppress(*_GONE, OSError):
            total += time.clock_gettime(_process_clock(member)) + _reaped(member)
    return total


def _process_clock(pid: int) -> int:
    # as clock_getcpuclockid(3) makes it: the scheduler's count of all threads of the process
    return (~pid << 3) | 2


def _reaped(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS


def pss(pid: int) -> int:
    """Bytes of memory of the tree; what processes share is divided among them."""
    total = 0
    for member in tree(pid):
        with suppress(*_GONE):
            found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{member}/smaps_rollup").read_text(), re.M)
            total += int(found[1]) * 1024 if found else 0
    return total
