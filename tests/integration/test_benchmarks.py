"""The benchmarks run, in small: there are figures, whatever they are, and nothing is left behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud.install import CHECKOUT
from tests.cloud.processes import environment

pytestmark = pytest.mark.timeout(600)

_NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def _benchmarks(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(
        command, cwd=CHECKOUT, env=environment(), capture_output=True, text=True, timeout=280
    )


@pytest.mark.skipif(_NGINX is None, reason="needs nginx (apt-get install nginx)")
def test_a_small_run(tmp_path: Path) -> None:
    """Two rows: the table, the pictures and the samples are there, and the page can be written anew."""
    done = _benchmarks(
        "--only", "hits", "--only", "eviction", "--scale", "small", "--rounds", "2", "--output", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "results.json").read_text())
    hits, eviction = told["rows"]
    assert {figure["unit"] for figure in hits["figures"]} == {"x"}
    assert all(len(figure["values"]) == 2 for figure in hits["figures"])
    assert all(value > 0 for figure in hits["figures"] for value in figure["values"])
    for samples in hits["samples"].values():
        assert all(sample["bytes_per_second"] > 0 and sample["pss"] > 0 for sample in samples)
        assert all(0 < sample["client_busy"] <= 1.01 for sample in samples)
    assert len(eviction["figures"]) == 5
    for picture in ("hits.svg", "targets.svg", "eviction.svg"):
        assert "<svg" in (tmp_path / picture).read_text()
    page = (tmp_path / "summary.rst").read_text()
    assert all(figure["what"] in page for figure in hits["figures"])
    left = [path.name for path in (CHECKOUT / ".bench" / "run").iterdir()]
    assert not [name for name in left if not Path("/proc", name.rpartition("-")[2]).exists()]

    (tmp_path / "shortfalls.rst").write_text("The machine was busy.\n")
    assert _benchmarks("--report", "--output", str(tmp_path)).returncode == 0
    assert (tmp_path / "summary.rst").read_text() == page.replace(
        "\n\n.. image:: hits.svg", "\n\nThe machine was busy.\n\n.. image:: hits.svg"
    )


def test_what_cannot_be_measured_is_told(tmp_path: Path) -> None:
    """A row that fails does not end the run; it has no figures, the page says why, and so does the status."""
    done = _benchmarks("--only", "hits", "--scale", "small", "--minutes", "-1", "--output", str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "not measured: no time was left" in (tmp_path / "summary.rst").read_text()
