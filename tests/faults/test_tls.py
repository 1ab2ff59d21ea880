"""TLS 1.2 and 1.3 and nothing else, towards clients, operators and the origin."""

import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.cloud.client import authorized
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.imitation import Imitation
from tests.cloud.payload import MIB, Payload
from tests.cloud.ports import LOOPBACK
from tests.faults.campaign import Campaign
from tests.faults.raw import exchange, status_of
from tests.faults.unreliable import Unreliable
from tests.integration.endless import body_of, endless
from tests.integration.launching import Launch
from tests.unit.authority import Authority

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
OLD = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
NEW = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
BODY = Payload(MIB, seed=905)
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
#: How a server says of a version that it does not speak it.
NOT_SPOKEN = "TLSV1_ALERT_PROTOCOL_VERSION"


def speaking(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    """This context, for this version alone; with what nobody should use any more where that needs it."""
    if version is not None:
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    return context


def client(
    authority: Authority, version: ssl.TLSVersion | None = None, key: Path | None = None
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if key is not None:
        context.load_cert_chain(key)
    return speaking(context, version)


def server(key: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(key)
    return speaking(context, version)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def key(authority: Authority) -> Path:
    return authority.issue("CN=localhost", server=True)


@pytest.fixture(scope="module")
def old(authority: Authority, key: Path) -> Sequence[ssl.TLSVersion]:
    """The old versions that can be spoken here at all: a client and a server of this very OpenSSL do."""
    spoken = [version for version in OLD if _can_be_spoken(authority, key, version)]
    if not spoken:
        pytest.skip(
            f"needs an OpenSSL that can be made to speak TLS 1.0 or 1.1; this is {ssl.OPENSSL_VERSION}"
        )
    return spoken


def _can_be_spoken(authority: Authority, key: Path, version: ssl.TLSVersion) -> bool:
    said: list[str | None] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with closing(connection), suppress(OSError):
            spoken = server(key, version).wrap_socket(connection, server_side=True)
            with closing(spoken):
                said.append(spoken.version())
                spoken.sendall(spoken.recv(100))

    with closing(socket.create_server((LOOPBACK, 0))) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        try:
            echo = exchange(listener.getsockname()[1], b"hello", tls=client(authority, version))
        except OSError:
            echo = b""
        serving.join()
    return echo == b"hello" and said == [version.name.replace("_", ".")]


# -- the sites -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(authority: Authority, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """A node that speaks TLS on both sites, and is managed by whoever has the operator's certificate."""
    origin = Imitation(endless)
    launch = Launch(tmp_path_factory.mktemp("node"))
    flags = launch.flags(
        origin=origin.url,
        listen=f"ssl:{launch.data_port}:interface={LOOPBACK}:privateKey={key}:certKey={key}",
        manage=f"ssl:{launch.manage_port}:interface={LOOPBACK}:privateKey={key}:certKey={key}",
        manage_auth="certificate",
        manage_ca_file=str(authority.certificate),
        manage_subjects="CN=operator,O=Example",
    )
    try:
        launch.start(*flags, ready=False)
        launch.until(lambda: _speaks(launch.manage_port, authority))
        yield launch
        assert launch.stop() == (0, "")
    finally:
        launch.clean_up()
        origin.close()


def _speaks(port: int, authority: Authority) -> bool:
    try:
        with closing(socket.create_connection((LOOPBACK, port), timeout=5)) as plain:
            client(authority).wrap_socket(plain, server_hostname="localhost").close()
    except OSError:
        return False
    return True


def _outcome(port: int, path: bytes, tls: ssl.SSLContext | None) -> str:
    """What comes of a GET: a status, or what TLS says."""
    try:
        answer = exchange(port, GET % path, tls=tls)
    except ssl.SSLError as error:
        return "not spoken" if error.reason == NOT_SPOKEN else "refused by TLS"
    except ConnectionError:
        return "refused by TLS"
    return f"status {status_of(answer)}" if status_of(answer) else "no answer of HTTP's"


def test_sites(node: Launch, authority: Authority, campaign: Campaign) -> None:
    """Both sites speak TLS 1.2 and 1.3, a hit is the same bytes as ever; and no plain text."""
    seen: Counter[str] = Counter()
    for _ in range(campaign.scale(5, 50)):
        for version in NEW:
            answer = exchange(node.data_port, GET % b"/v2/images/a/file", tls=client(authority, version))
            assert answer.endswith(b"\r\n\r\n" + body_of("a"))
            seen[f"served by {version.name}"] += 1
    for version in NEW:
        assert _outcome(node.manage_port, b"/cache", client(authority, version)) == "status 403"
    for port in (node.data_port, node.manage_port):
        for _ in range(campaign.scale(2, 20)):
            seen[f"plain text: {_outcome(port, b'/cache/health', None)}"] += 1
    campaign.record(
        "Security", "downloads by TLS, and requests in plain text", times=seen.total(), clients=seen
    )
    assert set(seen) == {"served by TLSv1_2", "served by TLSv1_3", "plain text: no answer of HTTP's"}, seen


def test_sites_and_older_versions(
    node: Launch, authority: Authority, old: Sequence[ssl.TLSVersion], campaign: Campaign
) -> None:
    """Clients that can speak nothing newer than TLS 1.1 are told so by either site, and get no further."""
    seen: Counter[str] = Counter()
    for _ in range(campaign.scale(1, 10)):
        for port in (node.data_port, node.manage_port):
            for version in old:
                seen[_outcome(port, b"/cache/health", client(authority, version))] += 1
    campaign.record("Security", f"clients of {_names(old)} alone", times=seen.total(), clients=seen)
    assert set(seen) == {"not spoken"}, seen


def test_certificates(node: Launch, authority: Authority, tmp_path: Path, campaign: Campaign) -> None:
    """Nobody manages anything without the operator's certificate, and nobody else can issue one."""
    keys = {
        "the operator's": authority.issue("CN=operator,O=Example"),
        "somebody else's": authority.issue("CN=somebody,O=Example"),
        "an expired one": authority.issue("CN=operator,O=Example", expired=True),
        "another authority's": Authority(tmp_path, "strangers").issue("CN=operator,O=Example"),
    }
    seen = {
        what: _outcome(node.manage_port, b"/cache/images", client(authority, key=key))
        for what, key in {"none": None, **keys}.items()
    }
    campaign.record(
        "Security",
        "operators with a certificate and without",
        times=len(seen),
        clients=", ".join(f"{what}: {outcome}" for what, outcome in seen.items()),
    )
    assert seen.pop("the operator's") == "status 200"
    assert (seen.pop("none"), seen.pop("somebody else's")) == ("status 403", "status 403")
    # A reset may reach the client before it has read what TLS says.
    assert set(seen.values()) <= {"refused by TLS", "no answer of HTTP's"}, seen


# -- the origin ----------------------------------------------------------------------------------


def test_an_old_origin(
    cloud: Cloud,
    authority: Authority,
    key: Path,
    old: Sequence[ssl.TLSVersion],
    start_proxy: ProxyFactory,
    campaign: Campaign,
) -> None:
    """An origin that can speak nothing newer than TLS 1.1 is a 502 that says why, and sees no request,
    however right its certificate is. The same one is an origin as soon as it speaks TLS 1.2 or 1.3."""
    image = cloud.open_images.create(BODY)
    origin = Unreliable(cloud.open_images.url, server(key, NEW[0]))
    origin.up()
    proxy = start_proxy(origin=origin.url, origin_ca_file=authority.certificate, authorization_ttl=0)
    seen: Counter[str] = Counter()
    for version in (*old, *NEW):
        origin.down()
        origin.tls = server(key, version)
        origin.up()
        assert _downloaded(origin, image.path, client(authority, version)) == BODY.data
        asked = origin.requests
        for _ in range(campaign.scale(1, 10)):
            got = proxy.download(image)
            if version in NEW:
                assert got.sha512 == BODY.sha512
                assert origin.requests > asked
            seen[f"{version.name}: {got.status}"] += 1
        assert version in NEW or origin.requests == asked
    origin.down()
    said = re.findall(r"Answered .* with 502: no TLS with the origin: .*version", proxy.service.logged())
    campaign.record(
        "Security",
        f"the origin speaks {_names([*old, *NEW])} alone; others can talk to it",
        times=seen.total(),
        clients=seen,
    )
    expected = [f"{version.name}: 502" for version in old] + [f"{version.name}: 200" for version in NEW]
    assert set(seen) == set(expected), seen
    assert len(said) == sum(count for outcome, count in seen.items() if outcome.endswith("502"))


def _downloaded(origin: Unreliable, path: str, context: ssl.SSLContext) -> bytes:
    """What anybody else gets from this origin."""
    with closing(HTTPSConnection("localhost", origin.port, timeout=60, context=context)) as connection:
        connection.request("GET", path, headers=authorized(None))
        return connection.getresponse().read()


def _names(versions: Sequence[ssl.TLSVersion]) -> str:
    named = {ssl.TLSVersion.TLSv1: "TLS 1.0"}
    return ", ".join(
        named.get(each, each.name.replace("TLSv", "TLS ").replace("_", ".")) for each in versions
    )
