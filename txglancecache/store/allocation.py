"""The room that bytes of a file take on disk, apart from what is written there.

Python has `os.posix_fallocate` alone, which writes zeros where the file system cannot set room aside.
"""

from __future__ import annotations

import ctypes

_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_library = ctypes.CDLL(None)
# Where there is the one with 64 in its name, the other may take shorter offsets.
_fallocate = getattr(_library, "fallocate64", None) or getattr(_library, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def set_aside(fd: int, start: int, length: int) -> None:
    """Have room for so many bytes, in as few pieces as there can be; where that fails, writing will tell."""
    _call(fd, _KEEP_SIZE, start, length)


def give_back(fd: int, start: int, length: int) -> None:
    """Have so many bytes take no room, and be zeros; where that fails, they stay."""
    _call(fd, _KEEP_SIZE | _PUNCH_HOLE, start, length)


def _call(fd: int, mode: int, start: int, length: int) -> None:
    if _fallocate is not None:
        _fallocate(fd, mode, start, length)
