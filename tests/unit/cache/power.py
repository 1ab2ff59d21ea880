"""A disk that forgets, when the power is cut, what had not been synced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

from attrs import define, field

_BLOCK = 4096


@define(eq=False)
class Disk:
    """Watches what is synced below ``bodies``. Names of files are on disk as soon as they are made, since
    their maker syncs them; whether a removed one is gone from there already nobody knows."""

    bodies: Path
    _synced: dict[str, bytes] = field(factory=dict, init=False)
    _removed: dict[Path, bytes] = field(factory=dict, init=False)
    _patches: list[Any] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        sync, fdatasync, unlink = os.fsync, os.fdatasync, os.unlink

        def noting(really: Any) -> Any:
            def synced(fd: int) -> None:
                really(fd)
                self._note(Path(os.readlink(f"/proc/self/fd/{fd}")))

            return synced

        def removing(path: Any, **options: Any) -> None:
            if self.bodies in Path(path).parents and os.path.exists(path):
                self._removed[Path(path)] = self._kept(Path(path))
            unlink(path, **options)

        for name, function in (
            ("fsync", noting(sync)),
            ("fdatasync", noting(fdatasync)),
            ("unlink", removing),
        ):
            self._patches.append(patch.object(os, name, function))
            self._patches[-1].start()

    def release(self) -> None:
        for patched in self._patches:
            patched.stop()

    def cut_power(self, *, removed_return: bool) -> None:
        """Leave in the files what was synced; zeros are in the place of the rest."""
        for path in self.bodies.glob("*/*"):
            _write(path, self._kept(path))
        if removed_return:
            for path, content in self._removed.items():
                _write(path, content)
        self._removed.clear()
        for path in self.bodies.glob("*/*"):
            self._note(path)

    def _note(self, path: Path) -> None:
        if path.is_file():
            self._synced[path.name] = path.read_bytes()

    def _kept(self, path: Path) -> bytes:
        return self._synced.get(path.name, bytes(path.stat().st_size))


def _write(path: Path, content: bytes) -> None:
    """Make it the content, with holes where there is nothing."""
    with path.open("wb") as file:
        file.truncate(len(content))
        for start in range(0, len(content), _BLOCK):
            if any(block := content[start : start + _BLOCK]):
                os.pwrite(file.fileno(), block, start)
