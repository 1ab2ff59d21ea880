"""A file system of its own whose power can be cut: what had not been synced is gone, as after a real cut."""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attrs import define

#: Of a new volume, in bytes.
SIZE = 384 << 20
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_LOG_FLUSH = struct.pack("I", 2)
_MENDED = (0, 1)  # e2fsck: nothing was wrong, or all of it was put right
_GONE_WITHIN = 5.0  # seconds that an unmounted file system takes to be gone, at most


class StillMounted(Exception):
    """Somebody else has the file system mounted too."""


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
        """:raises StillMounted: a process with mounts of its own has a copy of this one. To mount the device
        again would bring the same file system back, with whatever was wrong with it."""
        known = self._known_as()
        _run("umount", self.path)
        deadline = time.monotonic() + _GONE_WITHIN
        while known.exists():
            if time.monotonic() > deadline:
                raise StillMounted(f"{self.image} is unmounted here, and {known} is still there")
            time.sleep(0.01)

    def check(self) -> None:
        """Have e2fsck mend it; it must not be mounted.

        :raises CalledProcessError: it could not be mended.
        """
        _run("e2fsck", "-p", "-f", self.image, expected=_MENDED)

    def break_something(self) -> None:
        """Have the kernel find something wrong in it, whose answer to that is in the options of `mount`."""
        (self._known_as() / "trigger_fs_error").write_text("broken by a test")

    def _known_as(self) -> Path:
        """Where the kernel tells of it while it is mounted."""
        device = _run("findmnt", "-n", "-o", "SOURCE", self.path).strip()
        return Path("/sys/fs/ext4", Path(device).name)


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


def _run(*command: str | Path, expected: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode not in expected:
        done.check_returncode()
    return done.stdout
