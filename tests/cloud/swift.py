"""Swift: a proxy and one account, container and object server, one replica, with Keystone in front."""

import getpass
import subprocess
from pathlib import Path

from attrs import frozen

from tests.cloud.glance import authtoken
from tests.cloud.ini import write_ini
from tests.cloud.ports import free_port
from tests.cloud.processes import Processes, Service, environment

_KINDS = ("account", "container", "object")
_BUILD_RINGS = """
import sys
from swift.common.ring import RingBuilder
for argument in sys.argv[2:]:
    kind, port = argument.split("=")
    builder = RingBuilder(6, 1, 0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk"}
    builder.add_dev({**place, "weight": 1})
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""
_FILTERS = (
    "catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl authtoken keystoneauth slo dlo"
)


@frozen(eq=False)
class Swift:
    service: Service
    url: str
    storage: dict[str, Service]  # by the URL of each server behind the proxy

    @property
    def endpoint(self) -> str:
        """As the catalog names it."""
        return f"{self.url}/v1/AUTH_%(project_id)s"

    def wait(self) -> None:
        self.service.until_answers(f"{self.url}/healthcheck")
        for url, service in self.storage.items():
            service.until_answers(url)


def start(auth_url: str, bin_dir: Path, processes: Processes) -> Swift:
    home = processes.directory / "swift"
    (home / "devices" / "disk").mkdir(parents=True)
    ports = {kind: free_port() for kind in _KINDS}
    _common(home, bin_dir, ports)
    shared = {"swift_dir": home, "user": getpass.getuser(), "bind_ip": "127.0.0.1", "workers": 0}
    storage = {}
    for kind, port in ports.items():
        conf = write_ini(
            home / f"{kind}.conf",
            {
                "DEFAULT": {
                    **shared,
                    "bind_port": port,
                    "devices": home / "devices",
                    "mount_check": False,
                    "disable_fallocate": True,
                    "log_name": kind,
                },
                "pipeline:main": {"pipeline": f"{kind}-server"},
                f"app:{kind}-server": {"use": f"egg:swift#{kind}"},
            },
        )
        service = processes.start(f"swift-{kind}", bin_dir / f"swift-{kind}-server", conf, "--verbose")
        storage[f"http://127.0.0.1:{port}/"] = service
    memcached, port = free_port(), free_port()
    processes.start(
        "memcached", "memcached", "-u", getpass.getuser(), "-l", "127.0.0.1", "-p", str(memcached)
    )
    filters: dict[str, dict[str, object]] = {
        f"filter:{name}": {"use": f"egg:swift#{name}"} for name in _FILTERS.split()
    }
    filters["filter:cache"] = {"use": "egg:swift#memcache", "memcache_servers": f"127.0.0.1:{memcached}"}
    filters["filter:keystoneauth"]["operator_roles"] = "admin, member"
    filters["filter:authtoken"] = {
        "paste.filter_factory": "keystonemiddleware.auth_token:filter_factory",
        "delay_auth_decision": True,
        **authtoken(auth_url, "swift"),
    }
    conf = write_ini(
        home / "proxy.conf",
        {
            "DEFAULT": {**shared, "bind_port": port, "log_name": "proxy"},
            "pipeline:main": {"pipeline": f"{_FILTERS} proxy-server"},
            "app:proxy-server": {"use": "egg:swift#proxy", "account_autocreate": True},
            **filters,
        },
    )
    service = processes.start("swift-proxy", bin_dir / "swift-proxy-server", conf, "--verbose")
    return Swift(service, f"http://127.0.0.1:{port}", storage)


def _common(home: Path, bin_dir: Path, ports: dict[str, int]) -> None:
    write_ini(
        home / "swift.conf",
        {
            "swift-hash": {"swift_hash_path_prefix": "a", "swift_hash_path_suffix": "b"},
            "storage-policy:0": {"name": "only", "default": "yes"},
        },
    )
    arguments = [f"{kind}={port}" for kind, port in ports.items()]
    command = [str(bin_dir / "python"), "-c", _BUILD_RINGS, str(home), *arguments]
    subprocess.run(command, check=True, env=environment(), cwd=home, stdin=subprocess.DEVNULL)
