"""Who gets into the management site: Keystone's users and holders of certificates, and nobody else."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud import keystone as keystones
from tests.cloud.client import Answer, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.ports import LOOPBACK
from tests.cloud.processes import Processes
from tests.cloud.processes import stop as stop_processes
from tests.cloud.proxy import Proxy
from tests.integration.launching import PATIENCE, Launch
from tests.unit.authority import Authority

OPERATOR = "CN=operator,O=Example"


def ask(proxy: Proxy, line: str, token: str | None = None, **fields: str) -> Answer:
    """Of the management site."""
    method, _, path = line.partition(" ")
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return request(method, proxy.manage_url + path, token=token, headers=headers)


@pytest.fixture(scope="module")
def guarded(start_proxy: ProxyFactory, cloud: Cloud) -> Proxy:
    """A node whose management site asks Keystone about every request."""
    return start_proxy(manage_auth="keystone", keystone_url=cloud.keystone.url, keystone_ttl=0)


@pytest.mark.parametrize("line", ["GET /cache", "GET /cache/images", "GET /cache/jobs", "GET /metrics"])
def test_admin(guarded: Proxy, cloud: Cloud, line: str) -> None:
    """An admin may see everything."""
    assert ask(guarded, line, cloud.token("admin")).status == 200


def test_admin_acts(guarded: Proxy, cloud: Cloud) -> None:
    """An admin may do everything."""
    token = cloud.token("admin")
    purged = ask(guarded, "DELETE /cache/images", token)
    assert (purged.status, purged.json()) == (200, {"purged": 0})
    assert ask(guarded, "POST /cache/clean", token).status == 200
    assert ask(guarded, "DELETE /cache/images/no-such", token).status == 404


@pytest.mark.parametrize("user", ["alice", "reader"])
@pytest.mark.parametrize(
    "line", ["GET /cache", "GET /metrics", "DELETE /cache/images", "POST /cache/prefetch", "GET /nowhere"]
)
def test_other_roles(guarded: Proxy, cloud: Cloud, user: str, line: str) -> None:
    """Who is a member or a reader of a project may not."""
    refused = ask(guarded, line, cloud.token(user))
    assert refused.status == 403
    assert refused.json()["error"]["code"] == 403


@pytest.mark.parametrize("line", ["GET /cache", "GET /metrics", "GET /cache/ready", "DELETE /cache/images"])
def test_no_token(guarded: Proxy, cloud: Cloud, line: str) -> None:
    """Who has no token is sent to Keystone for one."""
    refused = ask(guarded, line)
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"] == f'Keystone uri="{cloud.keystone.url}"'


def test_wrong_token(guarded: Proxy, cloud: Cloud) -> None:
    """A token that is made up, or cut short, is none."""
    for token in ("nonsense", cloud.token("admin")[:-4]):
        refused = ask(guarded, "GET /cache", token)
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == f'Keystone uri="{cloud.keystone.url}"'


def test_expired_token(guarded: Proxy, cloud: Cloud) -> None:
    """A token whose time is up is none."""
    assert ask(guarded, "GET /cache", cloud.expired_token("admin")).status == 401


def test_revoked_token(guarded: Proxy, cloud: Cloud) -> None:
    """Neither is one that was revoked."""
    token = cloud.identity.issue("admin")
    assert ask(guarded, "GET /cache", token).status == 200
    cloud.identity.revoke(token)
    assert ask(guarded, "GET /cache", token).status == 401


def test_open(guarded: Proxy) -> None:
    """That the process lives is no secret, and the page is the same for everybody."""
    assert ask(guarded, "GET /cache/health").status == 200
    page = ask(guarded, "GET /cache/", Accept="text/html")
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert ask(guarded, "GET /cache/", Accept="application/json").status == 401


def test_other_names(guarded: Proxy, cloud: Cloud) -> None:
    """By which name the site is called does not matter where callers are known; another site's page does."""
    token = cloud.token("admin")
    assert ask(guarded, "GET /cache", token, Host="cache.example:9394").status == 200
    crossed = ask(guarded, "DELETE /cache/images", token, Origin="https://evil.example")
    assert crossed.status == 403


def test_no_trace_of_tokens(guarded: Proxy, cloud: Cloud) -> None:
    """No token gets into the log or onto the disk."""
    token = cloud.identity.issue("admin")
    for line in ("GET /cache", "DELETE /cache/images", "GET /nowhere"):
        ask(guarded, line, token)
        ask(guarded, line, "gAAAAA-made-up")
    for path in [guarded.service.log, *guarded.directory.rglob("*")]:
        if path is not None and path.is_file():
            text = path.read_bytes()
            assert token.encode() not in text, path
            assert b"gAAAAA-made-up" not in text, path


@pytest.fixture
def mortal(cloud: Cloud, processes: Processes) -> Iterator[keystones.Keystone]:
    """A Keystone of one's own on the same database, which may be stopped."""
    keystone = keystones.start_issuer(cloud.keystone, 3600, cloud.installation.bin, processes)
    processes.services.remove(keystone.service)
    keystone.service.until_answers(keystone.url)
    yield keystone
    stop_processes([keystone.service])


def test_keystone_stopped(
    start_proxy: ProxyFactory, cloud: Cloud, mortal: keystones.Keystone, processes: Processes
) -> None:
    """Without Keystone, what it has just said holds for a moment; then nobody gets in, until it is back."""
    ttl = 2
    proxy = start_proxy(manage_auth="keystone", keystone_url=mortal.url, keystone_ttl=ttl)
    token = cloud.token("admin")
    assert ask(proxy, "GET /cache", token).status == 200
    stop_processes([mortal.service])
    assert ask(proxy, "GET /cache", cloud.identity.issue("admin")).status == 503
    proxy.until(lambda: ask(proxy, "GET /cache", token).status == 503, "a refusal", seconds=10 * ttl)
    refused = ask(proxy, "DELETE /cache/images", token)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert ask(proxy, "GET /cache").status == 401
    assert ask(proxy, "GET /cache/health").status == 200


def test_many_wrong_tokens(start_proxy: ProxyFactory, cloud: Cloud) -> None:
    """Who tries tokens is slowed down; who is known already is not."""
    proxy = start_proxy(manage_auth="keystone", keystone_url=cloud.keystone.url, keystone_ttl=30)
    token = cloud.token("admin")
    assert ask(proxy, "GET /cache", token).status == 200
    statuses = [ask(proxy, "GET /cache", f"guess-{number}").status for number in range(15)]
    assert statuses[:10] == [401] * 10
    refused = ask(proxy, "GET /cache", "guess")
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 6
    assert ask(proxy, "GET /cache", token).status == 200


def test_policy_file(start_proxy: ProxyFactory, cloud: Cloud, tmp_path: Path) -> None:
    """An operator's policy lets others in, and is followed when it changes, unless it is wrong."""
    policy = tmp_path / "policy.yaml"
    policy.write_text('"cache_list": "role:reader"\n')
    url = cloud.keystone.url
    proxy = start_proxy(manage_auth="keystone", keystone_url=url, policy_file=policy)
    reader = cloud.token("reader")
    assert ask(proxy, "GET /cache", reader).status == 200
    assert ask(proxy, "GET /metrics", reader).status == 200
    assert ask(proxy, "DELETE /cache/images", reader).status == 403
    policy.write_text("cache_list: nonsense\n")
    proxy.until(lambda: "The policy stays as it was" in proxy.service.logged(), "a complaint")
    assert ask(proxy, "GET /cache", reader).status == 200
    policy.write_text('"cache_list": "role:admin"\n')
    proxy.until(lambda: ask(proxy, "GET /cache", reader).status == 403, "the new policy")


# certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def by_certificate(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """A node whose management site wants certificates; Prometheus may read its metrics."""
    directory = tmp_path_factory.mktemp("by-certificate")
    policy = directory / "policy.yaml"
    policy.write_text('"cache_metrics": "role:admin or common_name:prometheus"\n')
    pem = authority.issue("CN=localhost", server=True)
    launch = Launch(directory)
    flags = launch.flags(
        manage=f"ssl:{launch.manage_port}:privateKey={pem}:interface={LOOPBACK}",
        manage_auth="certificate",
        manage_ca_file=str(authority.certificate),
        manage_subjects=OPERATOR,
        policy_file=str(policy),
    )
    launch.start(*flags, ready=False)
    launch.until(
        lambda: (
            f"Listening on IPv4Address(type='TCP', host='{LOOPBACK}', port={launch.manage_port}"
            in launch.log()
        )
    )
    yield launch
    launch.stop()
    launch.clean_up()


def status(launch: Launch, authority: Authority, certificate: Path | None, line: str) -> int:
    """Of an answer over TLS, to a client with or without a certificate."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if certificate is not None:
        context.load_cert_chain(certificate)
    connection = http.client.HTTPSConnection(
        "localhost", launch.manage_port, timeout=PATIENCE, context=context
    )
    method, _, path = line.partition(" ")
    try:
        connection.request(method, path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def test_operators_certificate(by_certificate: Launch, authority: Authority) -> None:
    """The holder of a certificate with the right subject may do everything."""
    operator = authority.issue(OPERATOR)
    for line in ("GET /cache", "GET /metrics", "DELETE /cache/images"):
        assert status(by_certificate, authority, operator, line) == 200


def test_other_certificates(by_certificate: Launch, authority: Authority) -> None:
    """Another one's may do what the policy says; without any one may do nothing."""
    prometheus, stranger = authority.issue("CN=prometheus"), authority.issue("CN=operator")
    for certificate, metrics in ((prometheus, 200), (stranger, 403), (None, 403)):
        assert status(by_certificate, authority, certificate, "GET /metrics") == metrics
        assert status(by_certificate, authority, certificate, "GET /cache") == 403
        assert status(by_certificate, authority, certificate, "GET /cache/health") == 200


def test_worthless_certificates(by_certificate: Launch, authority: Authority, tmp_path: Path) -> None:
    """A certificate that has expired, or that somebody else has issued, ends the connection."""
    for certificate in (authority.issue(OPERATOR, expired=True), Authority(tmp_path).issue(OPERATOR)):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            status(by_certificate, authority, certificate, "GET /cache/health")


def test_curl(by_certificate: Launch, authority: Authority) -> None:
    """An operator can do it with curl."""
    certificate = authority.issue(OPERATOR)
    command = ["curl", "-sS", "--cacert", str(authority.certificate), "--cert", str(certificate)]
    said = subprocess.run(
        [*command, f"https://localhost:{by_certificate.manage_port}/cache"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert said.stderr == ""
    assert json.loads(said.stdout)["entries"] == 0


# what does not start


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manage": "tcp:0:interface=0.0.0.0"}, "may not listen on tcp:0:interface=0.0.0.0"),
        ({"manage": "tcp:0:interface=0.0.0.0", "manage_auth": "none"}, "or see --manage-auth"),
        ({"manage_auth": "keystone"}, "--manage-auth keystone needs --keystone-url URL"),
        ({"manage_auth": "nobody"}, "--manage-auth: Valid values are [none, keystone, certificate]"),
        (
            {"manage_auth": "keystone", "keystone_url": "https://k", "keystone_ca_file": "/nonexistent"},
            "cannot use /nonexistent: No such file or directory",
        ),
        (
            {"manage_auth": "keystone", "keystone_url": "http://k", "policy_file": "/nonexistent"},
            "cannot read /nonexistent: No such file or directory",
        ),
        (
            {"manage_auth": "certificate", "manage_ca_file": "/dev/null", "manage_subjects": "CN=a"},
            "cannot use /dev/null: it holds no certificates in PEM form",
        ),
    ],
    ids=range(7),
)
def test_refused(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    """What would let nobody in, or everybody, does not start."""
    launch = Launch(tmp_path)
    ended = launch.run(*launch.flags(**changes))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert said in ended.stderr


def test_certificates_need_tls(tmp_path: Path, authority: Authority) -> None:
    """Where no TLS is spoken nobody can show a certificate, so it does not start."""
    launch = Launch(tmp_path)
    flags = launch.flags(
        manage_auth="certificate", manage_ca_file=str(authority.certificate), manage_subjects="CN=a"
    )
    assert "nobody can show a certificate on tcp:" in launch.run(*flags).stderr
