"""Where a run took place, and with what."""

import mmap
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tests.cloud.install import Installation
from tests.cloud.payload import GIB

#: Of a loop that shows how fast the machine is: a few hundredths of a second.
_LOOPS = 500_000
_OWN = ("txglancecache", "Twisted", "klein")
_IN_THE_CLOUD = ("glance", "keystone", "swift", "gunicorn")


def machine(where: Path) -> Mapping[str, str]:
    """The machine; ``where`` is a directory on the file system that is used."""
    memory = int(_first(r"^MemTotal:\s*(\d+) kB$", "/proc/meminfo")) * 1024
    return {
        "Processor": _first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo"),
        "Cores": str(len(os.sched_getaffinity(0))),
        "Memory": f"{memory / GIB:.0f} GiB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "File system": _file_system(where),
        "Load before it began": f"{os.getloadavg()[0]:.1f}",
    }


def have_memory(count: int) -> None:
    """Have so many bytes of memory that is free and really there.

    A host takes back in large pieces what its guest has freed. The next to write a file there pays for
    getting it again, more than the writing costs, and which server that is is a matter of chance.
    """
    with mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory[:: mmap.PAGESIZE] = bytes(count // mmap.PAGESIZE)


def pace() -> float:
    """Seconds that the same small loop of Python takes now. A virtual machine's processors are not always
    equally fast: its neighbours have a share in them."""
    began = time.perf_counter()
    for _ in range(_LOOPS):
        pass
    return time.perf_counter() - began


def versions(installation: Installation | None) -> Mapping[str, str]:
    """What ran; of the cloud, if there is one."""
    found = {"Python": platform.python_version()}
    found.update({name: version(name) for name in _OWN})
    if program := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
        found["nginx"] = said.strip().rpartition("/")[2]
    if installation is not None:
        found.update(_installed(installation))
    return found


def _installed(installation: Installation) -> dict[str, str]:
    pins = (installation.root / "venv" / "lib").glob("python*/site-packages/*.dist-info")
    known = {path.name.partition("-")[0]: path.name.split("-")[1].removesuffix(".dist") for path in pins}
    return {name: known[name] for name in _IN_THE_CLOUD if name in known}


def _first(pattern: str, path: str) -> str:
    found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _file_system(where: Path) -> str:
    said = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", where], capture_output=True, text=True)
    return said.stdout.strip() or "unknown"
