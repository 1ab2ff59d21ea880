"""A node that takes another's place."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from txglancecache.errors import DirectoryLocked
from txglancecache.store.directory import Directory

#: Seconds between two looks at whether the other process has left the cache directory.
_LOOK_AGAIN = 0.1


def take_over(path: Path, wait: float) -> Directory:
    """The cache directory, as soon as a process that is about to end has left it; blocks.

    :param wait: seconds after which that other process is taken to stay.
    :raises StoreError: it stays, or the directory cannot be used.
    """
    deadline = time.monotonic() + wait
    told = False
    while True:
        try:
            return Directory.open(path)
        except DirectoryLocked:
            if time.monotonic() >= deadline:
                raise
        if not told:
            told = True
            # Nothing is logged yet, and an operator who started it twice is not to wonder.
            print(
                f"twistd glancecache: waiting {wait:g} s for another process to leave {path}", file=sys.stderr
            )
        time.sleep(_LOOK_AGAIN)
