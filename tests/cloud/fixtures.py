"""One cloud for the whole run; relays in front of its Glance; proxies in front of the relays."""

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.cloud.cloud import Cloud, running
from tests.cloud.install import Installation, install
from tests.cloud.processes import Processes
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay

ProxyFactory = Callable[..., Proxy]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "processes" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cloud)


@pytest.fixture(scope="session")
def installation() -> Installation:
    return install()


@pytest.fixture(scope="session")
def processes(installation: Installation) -> Iterator[Processes]:
    with running(installation) as processes:
        yield processes


@pytest.fixture(scope="session")
def cloud(installation: Installation, processes: Processes) -> Cloud:
    """A running Keystone, Glance and Swift."""
    return Cloud.start(installation, processes)


@pytest.fixture(scope="session")
def _session_relay(cloud: Cloud) -> Iterator[Relay]:
    relay = Relay(cloud.glance.url)
    relay.start()
    yield relay
    relay.close()


@pytest.fixture
def relay(_session_relay: Relay) -> Iterator[Relay]:
    """What crosses the wire to Glance in this test."""
    _session_relay.calm()
    yield _session_relay
    _session_relay.calm()


@pytest.fixture(scope="module")
def start_proxy(
    processes: Processes, _session_relay: Relay, request: pytest.FixtureRequest
) -> Iterator[ProxyFactory]:
    """Start a proxy with the given options, in front of the relay unless `origin` says otherwise. At the
    module's end each one has to stop cleanly."""
    proxies: list[Proxy] = []

    module = request.node.name.removesuffix(".py").rpartition("test_")[2]

    def start(origin: str | None = None, **options: object) -> Proxy:
        home = processes.directory / f"proxy-{module}-{len(proxies)}"
        home.mkdir()
        proxy = Proxy(origin or _session_relay.url, home, processes.logs, options)
        proxies.append(proxy)
        proxy.start()
        return proxy

    yield start
    try:
        for proxy in proxies:
            if proxy.is_running:
                proxy.stop()
    finally:
        for proxy in proxies:
            proxy.close()
            shutil.rmtree(proxy.directory)


@pytest.fixture(scope="module")
def proxy(start_proxy: ProxyFactory) -> Proxy:
    """A proxy that asks Glance about every single request."""
    return start_proxy(authorization_ttl=0)


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on whose shell it was started from."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
