"""What `pip install` brings, in an environment with nothing else in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.integration.launching import ROOT

#: Longer than the limits of what it runs: a package index may be slow.
pytestmark = pytest.mark.timeout(600)

#: What a source distribution has; a fresh copy, so that no earlier build gets into this one.
SOURCE = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "LICENSE",
    "README.rst",
    "txglancecache",
    "twisted",
    "etc",
)


def run(directory: Path, *command: str | Path) -> str:
    """The output of a command that has to work, run where this checkout is not in its way."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        [str(word) for word in command], cwd=directory, env=kept, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that this checkout builds."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
    for name in SOURCE:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignored)
        elif path.exists():
            shutil.copy(path, source)
    run(directory, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", directory, source)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path) -> Path:
    """The programs of an environment in which the wheel was installed."""
    place = wheel.parent / "venv"
    venv.create(place, with_pip=True)
    constraints = ROOT / "constraints.txt"
    pinned: list[str | Path] = ["-c", constraints] if constraints.exists() else []
    run(wheel.parent, place / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *pinned, wheel)
    return place / "bin"


def test_contents(wheel: Path) -> None:
    """The wheel has the package, its type marker and the plugin, and nothing that belongs to Twisted."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"txglancecache/py.typed", "txglancecache/tap.py", "txglancecache/store/directory.py"} <= names
    assert {name for name in names if name.startswith("twisted/")} == {
        "twisted/plugins/txglancecache_plugin.py"
    }
    assert not [name for name in names if name.startswith("tests/")]


def test_command(programs: Path, tmp_path: Path) -> None:
    """`twistd` knows the command, and its help works."""
    assert "glancecache" in run(tmp_path, programs / "twistd", "--help")
    assert "--cache-dir DIR" in run(tmp_path, programs / "twistd", "glancecache", "--help")


def test_sample_configuration(programs: Path, tmp_path: Path) -> None:
    """The committed sample is what oslo.config's generator makes of the installed options."""
    generator = ROOT / "etc" / "oslo-config-generator" / "txglancecache.conf"
    made = tmp_path / "sample"
    run(tmp_path, programs / "oslo-config-generator", "--config-file", generator, "--output-file", made)
    assert made.read_text() == (ROOT / "etc" / "txglancecache.conf.sample").read_text()
