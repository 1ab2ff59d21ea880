"""A process that takes another's place in a cache directory."""

from __future__ import annotations

from pathlib import Path
from threading import Timer

import pytest

from txglancecache.errors import DirectoryLocked
from txglancecache.service.takeover import take_over
from txglancecache.store.directory import Directory


def test_taking_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that takes another's place waits until that one has left the directory, and says so."""
    ending = Directory.open(tmp_path)
    leaving = Timer(1, ending.close)
    leaving.start()
    take_over(tmp_path, 60).close()
    leaving.join()
    assert capsys.readouterr().err == (
        f"twistd glancecache: waiting 60 s for another process to leave {tmp_path}\n"
    )


@pytest.mark.parametrize("wait", [0, 0.2])
def test_not_taking_over(tmp_path: Path, wait: float) -> None:
    """It does not wait for ever."""
    staying = Directory.open(tmp_path)
    with pytest.raises(DirectoryLocked):
        take_over(tmp_path, wait)
    staying.close()
