"""The times of files, which come from a clock that goes on by as much as 10 ms at once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import NamedTemporaryFile


def let_pass(path: Path) -> None:
    """Waits until a change of the file ``path`` would show in its times."""
    changed = path.stat().st_ctime_ns
    with NamedTemporaryFile(dir=path.parent) as probe:
        while os.stat(probe.name).st_ctime_ns <= changed:
            time.sleep(0.001)
            os.utime(probe.name)
