"""Keystone: its configuration and its process. What is in it is made through its API, by `identity`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from tests.cloud.identity import PASSWORD
from tests.cloud.ini import write_ini
from tests.cloud.ports import free_port
from tests.cloud.processes import Processes, Service


def preparation(bin_dir: Path, template: Path) -> Iterator[list[str | Path]]:
    """The commands that make a migrated database with an admin user, and the keys, under `template`."""
    home = template / "keystone"
    home.mkdir()
    manage: list[str | Path] = [bin_dir / "keystone-manage", "--config-file", _configure(home, lifetime=3600)]
    yield [*manage, "db_sync"]
    for keys in ("fernet_setup", "credential_setup"):
        yield [*manage, keys, "--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    yield [*manage, "bootstrap", "--bootstrap-password", PASSWORD]


def _configure(home: Path, lifetime: int, name: str = "keystone.conf") -> Path:
    return write_ini(
        home / name,
        {
            "database": {"connection": f"sqlite:///{home}/keystone.db"},
            "fernet_tokens": {"key_repository": home / "fernet"},
            "fernet_receipts": {"key_repository": home / "fernet"},
            "credential": {"key_repository": home / "credential"},
            "token": {"provider": "fernet", "expiration": lifetime},
            # one process answers, so what it remembers is true
            "cache": {"enabled": True, "backend": "dogpile.cache.memory"},
            "identity": {"password_hash_rounds": 4},  # the least that bcrypt allows: fast, not safe
        },
    )


@frozen(eq=False)
class Keystone:
    service: Service
    home: Path
    url: str


def start(bin_dir: Path, template: Path, processes: Processes) -> Keystone:
    home = processes.directory / "keystone"
    shutil.copytree(template / "keystone", home)
    return _serve("keystone", bin_dir, home, _configure(home, lifetime=3600), processes)


def start_issuer(keystone: Keystone, lifetime: int, bin_dir: Path, processes: Processes) -> Keystone:
    """A second Keystone on the same database and keys, whose tokens live for `lifetime` seconds only. They
    are as good as the first one's until then, and refused by both afterwards."""
    conf = _configure(keystone.home, lifetime, f"issuer-{lifetime}.conf")
    return _serve(f"keystone-issuer-{lifetime}", bin_dir, keystone.home, conf, processes)


def _serve(name: str, bin_dir: Path, home: Path, conf: Path, processes: Processes) -> Keystone:
    port = free_port()
    env = {"OS_KEYSTONE_CONFIG_FILES": str(conf)}
    service = processes.gunicorn(
        name, bin_dir / "gunicorn", "keystone.wsgi.api:application", port, env, threads=8
    )
    return Keystone(service, home, f"http://127.0.0.1:{port}/v3")
