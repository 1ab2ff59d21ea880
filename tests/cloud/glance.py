"""Glance: its configuration and its process, behind Keystone or open to everybody."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from tests.cloud.identity import PASSWORD
from tests.cloud.ini import Sections, write_ini
from tests.cloud.ports import free_port
from tests.cloud.processes import Processes, Service

FILE_STORE, SWIFT_STORE, HTTP_STORE = "fast", "swift", "http"


def preparation(bin_dir: Path, template: Path) -> Iterator[list[str | Path]]:
    """The command that makes a migrated database under `template`."""
    database = {"database": {"connection": f"sqlite:///{template}/glance.db"}}
    conf = write_ini(template / "glance-api.conf", database)
    yield [bin_dir / "glance-manage", "--config-file", conf, "db_sync"]


@frozen(eq=False)
class Glance:
    service: Service
    url: str

    def wait(self) -> None:
        self.service.until_answers(f"{self.url}/healthcheck")


def authtoken(auth_url: str, user: str) -> dict[str, object]:
    """How a service checks tokens: each one with Keystone, every time, so that a revocation holds at once."""
    return {
        "www_authenticate_uri": auth_url,
        "auth_url": auth_url,
        "auth_type": "password",
        "username": user,
        "password": PASSWORD,
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "service_token_roles_required": True,
        "token_cache_time": -1,
    }


def start_for(auth_url: str, bin_dir: Path, template: Path, paste: Path, processes: Processes) -> Glance:
    """Glance behind Keystone, with a file, a swift and an http store."""
    home = processes.directory / "glance"
    home.mkdir()
    references = write_ini(
        home / "swift-references.conf",
        {
            "ref1": {
                "user": "service:glance",
                "key": PASSWORD,
                "user_domain_id": "default",
                "project_domain_id": "default",
                "auth_version": 3,
                "auth_address": auth_url,
            }
        },
    )
    return _serve(
        home,
        bin_dir,
        template,
        processes,
        stores=f"{FILE_STORE}:file, {SWIFT_STORE}:swift, {HTTP_STORE}:http",
        sections={
            "paste_deploy": {"flavor": "keystone", "config_file": paste},
            "oslo_policy": {"enforce_scope": True, "enforce_new_defaults": True},
            # what an image may be linked to is on loopback here, which Glance forbids unless told
            "import_filtering_opts": {"allowed_hosts": "[127.0.0.1]", "allowed_ports": "[]"},
            "keystone_authtoken": authtoken(auth_url, "glance"),
            SWIFT_STORE: {
                "swift_store_create_container_on_put": True,
                "swift_store_container": "glance",
                "swift_store_auth_version": 3,
                "swift_store_config_file": references,
                "default_swift_reference": "ref1",
                "swift_store_region": "RegionOne",
            },
        },
    )


# nobody has a role in a Glance that asks nobody, and the defaults of today ask for one
_OPEN_POLICY = {"enforce_scope": False, "enforce_new_defaults": False}


def start_open(bin_dir: Path, template: Path, paste: Path, processes: Processes) -> Glance:
    """Glance with a file store and no Keystone: whoever asks is an administrator."""
    home = processes.directory / "open-glance"
    home.mkdir()
    sections: Sections = {
        "paste_deploy": {"flavor": "", "config_file": paste},
        "oslo_policy": _OPEN_POLICY,
    }
    return _serve(home, bin_dir, template, processes, stores=f"{FILE_STORE}:file", sections=sections)


def start_caching(
    bin_dir: Path, template: Path, paste: Path, processes: Processes, *, workers: int
) -> Glance:
    """As `start_open`, with Glance's own image cache, an http store, and several processes."""
    home = processes.directory / "caching-glance"
    (home / "cache").mkdir(parents=True)
    sections: Sections = {
        "paste_deploy": {"flavor": "caching", "config_file": paste},
        "oslo_policy": _OPEN_POLICY,
        "import_filtering_opts": {"allowed_hosts": "[127.0.0.1]", "allowed_ports": "[]"},
    }
    return _serve(
        home,
        bin_dir,
        template,
        processes,
        stores=f"{FILE_STORE}:file, {HTTP_STORE}:http",
        sections=sections,
        defaults={"image_cache_dir": home / "cache", "image_cache_max_size": 64 * 2**30},
        workers=workers,
    )


def _serve(
    home: Path,
    bin_dir: Path,
    template: Path,
    processes: Processes,
    *,
    stores: str,
    sections: Sections,
    defaults: Mapping[str, object] | None = None,
    workers: int = 1,
) -> Glance:
    port = free_port()
    for name in ("images", "staging", "tasks", "lock"):
        (home / name).mkdir()
    shutil.copy(template / "glance.db", home / "glance.db")
    common: Sections = {
        "DEFAULT": {
            "enabled_backends": stores,
            "show_multiple_locations": True,
            "enabled_import_methods": "[glance-direct,web-download,copy-image]",
            "worker_self_reference_url": f"http://127.0.0.1:{port}",
            **(defaults or {}),
        },
        "database": {"connection": f"sqlite:///{home}/glance.db"},
        "glance_store": {"default_backend": FILE_STORE},
        "oslo_concurrency": {"lock_path": home / "lock"},
        FILE_STORE: {"filesystem_store_datadir": home / "images"},
        "os_glance_staging_store": {"filesystem_store_datadir": home / "staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": home / "tasks"},
    }
    write_ini(home / "glance-api.conf", {**common, **sections})
    env = {"OS_GLANCE_CONFIG_DIR": str(home), "OS_GLANCE_CONFIG_FILES": "glance-api.conf"}
    application = "glance.wsgi.api:application"
    service = processes.gunicorn(home.name, bin_dir / "gunicorn", application, port, env, workers=workers)
    return Glance(service, f"http://127.0.0.1:{port}")
