"""A file system of its own whose power can be cut: what had not been synced is gone, as after a real cut."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attrs import define

#: Of a new volume, in bytes.
SIZE = 384 << 20
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_LOG_FLUSH = struct.pack("I", 2)


@define(eq=False)
class Volume:
    """An ext4 in a file, mounted at `path` through a loop device."""

    image: Path
    path: Path

    def mount(self, options: str = "data=ordered") -> None:
        _run("mount", "-o", f"loop,{options}", self.image, self.path)

    def cut_power(self) -> None:
        """From now on nothing reaches the disk, not even the journal's last transaction; all fails that
        would have to."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, _WITHOUT_LOG_FLUSH)
        finally:
            os.close(directory)

    def unmount(self) -> None:
        _run("umount", self.path)


@contextmanager
def volume(home: Path, on: Path | None = None) -> Iterator[Volume]:
    """A mounted volume, its files under `home`; skips the test where there cannot be one.

    :param on: the file to make it in, which is long enough; None: a new one.
    """
    if os.geteuid() != 0:
        pytest.skip("a file system that fails takes root, ext4 and a loop device")
    # The logs of a node that lives there are named after it.
    made = Volume(on or home / "ext4", home / home.name)
    made.path.mkdir(parents=True)
    if on is None:
        with made.image.open("wb") as file:
            file.truncate(SIZE)
    try:
        _run("mkfs.ext4", "-q", made.image)
        made.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or error
        pytest.skip(f"a file system that fails takes ext4 and a loop device: {said}")
    try:
        yield made
    finally:
        if os.path.ismount(made.path):
            with suppress(subprocess.CalledProcessError):
                made.unmount()
        if os.path.ismount(
            made.path
        ):  # something still uses it: gone from here now, and for good when that ends
            _run("umount", "-l", made.path)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
