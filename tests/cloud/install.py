"""What every run shares: the packages of `requirements/cloud.txt` in a virtual environment, and databases
that are already migrated. Made once under the checkout's `.cloud` and made anew when the pins, the
interpreter or the place change."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.cloud import glance, keystone
from tests.cloud.processes import environment

CHECKOUT = Path(__file__).resolve().parents[2]
REQUIREMENTS = CHECKOUT / "requirements"
_RECIPE = 2  # raise it when what is made below changes


class InstallFailed(Exception):
    """A step of the installation failed; the text carries its output."""


@frozen
class Installation:
    """Where the programs are, and the databases to copy."""

    root: Path

    @property
    def bin(self) -> Path:
        return self.root / "venv" / "bin"

    @property
    def template(self) -> Path:
        return self.root / "template"

    @property
    def paste(self) -> Path:
        return self.root / "venv" / "etc" / "glance" / "glance-api-paste.ini"


def install(root: Path = CHECKOUT / ".cloud") -> Installation:
    """The installation under `root`, made if it is not there yet."""
    root.mkdir(exist_ok=True)
    installation = Installation(root)
    stamp, key = root / "installed", _key(root)
    with _locked(root / "lock"):
        if not stamp.exists() or stamp.read_text() != key:
            stamp.unlink(missing_ok=True)
            _say(f"Installing OpenStack into {root}, once; what is done is in {_log(installation)}")
            _packages(installation)
            _templates(installation)
            stamp.write_text(key)
            _say("OpenStack is installed")
    return installation


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _log(installation: Installation) -> Path:
    return installation.root / "install.log"


def _key(root: Path) -> str:
    digest = hashlib.sha256(f"{_RECIPE} {sys.version} {root}".encode())
    for name in ("cloud.txt", "cloud-constraints.txt"):
        digest.update((REQUIREMENTS / name).read_bytes())
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _packages(installation: Installation) -> None:
    venv = installation.root / "venv"
    _say("- its packages: a minute, or more where they have to come from far away")
    shutil.rmtree(venv, ignore_errors=True)
    _run(installation, sys.executable, "-m", "venv", venv)
    pins = ("-c", REQUIREMENTS / "cloud-constraints.txt", "-r", REQUIREMENTS / "cloud.txt")
    _run(installation, venv / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", *pins)


def _templates(installation: Installation) -> None:
    shutil.rmtree(installation.template, ignore_errors=True)
    installation.template.mkdir()
    _say("- the databases of Keystone and Glance")
    for command in (
        *keystone.preparation(installation.bin, installation.template),
        *glance.preparation(installation.bin, installation.template),
    ):
        _run(installation, *command)


def _run(installation: Installation, *command: str | Path) -> None:
    log = _log(installation)
    with log.open("ab") as output:
        code = subprocess.call(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            cwd=installation.root,
        )
    if code:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise InstallFailed(f"{' '.join(map(str, command))} ended with {code}:\n{last}")


if __name__ == "__main__":
    try:
        install()
    except InstallFailed as failed:
        sys.exit(str(failed))
