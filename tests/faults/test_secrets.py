"""No secret is left lying about, be it in an answer, a log or a file; and nobody else can read the files."""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from attrs import define, field, frozen

from tests.cloud.client import Answer, download, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.imitation import Imitation
from tests.cloud.payload import MIB, Payload
from tests.cloud.ports import LOOPBACK
from tests.cloud.proxy import Proxy, eventually
from tests.cloud.relay import Relay
from tests.faults import unreliable as faults
from tests.faults.campaign import Campaign
from tests.faults.raw import exchange, status_of
from tests.faults.unreliable import Unreliable
from tests.integration.endless import WRONG, body_of, endless
from tests.integration.launching import Launch

BODY = Payload(MIB, seed=901)
#: So short that all of it is held back until it is known to be right.
SHORT = Payload(10_000, seed=904)
OCTETS = {"Content-Type": "application/octet-stream"}


@frozen
class Secrets:
    """What nobody but those concerned may ever see, by what it is."""

    values: Mapping[str, str]

    def __getitem__(self, what: str) -> str:
        return self.values[what]

    @property
    def fields(self) -> dict[str, str]:
        """Fields of a request that carry some of them."""
        return {
            "Cookie": f"session={self['a cookie']}",
            "Authorization": f"Basic {self['a password']}",
            "Referer": f"http://there.example/?temp_url_sig={self['a signature']}",
        }

    @property
    def query(self) -> str:
        return "?temp_url_sig={}&token={}".format(self["a signature"], self["alice's token"])

    def found_in(self, places: "list[Place]") -> list[str]:
        return [
            f"{what} in {place.where}"
            for place in places
            for what, secret in self.values.items()
            if secret.encode() in place.content
        ]


@frozen
class Place:
    """Something that somebody can read. ``status`` is that of an answer that the node has made up itself."""

    where: str
    content: bytes
    status: int = 0


@define(eq=False)
class Asker:
    """Asks, and keeps whatever is answered."""

    secrets: Secrets
    places: list[Place] = field(factory=list)

    def ask(
        self,
        method: str,
        url: str,
        token: str | None,
        fields: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        answer = request(
            method, url, token=token, headers={**self.secrets.fields, **(fields or {})}, body=body
        )
        glances = answer.headers["Via"] is not None
        # What Glance's lists say of the question is the asker's own.
        if not (glances and answer.status == 200 and "/v2/images?" in url):
            head = f"{answer.status}\n{answer.headers}".encode()
            where = f"the answer to {method} {url.partition('?')[0]}"
            self.places.append(Place(where, head + answer.body, 0 if glances else answer.status))
        return answer

    def say(self, port: int, what: str, data: bytes) -> None:
        """Ask as no client would."""
        answer = exchange(port, data)
        status = 0 if b"\r\nVia: " in answer else status_of(answer)
        self.places.append(Place(f"the answer to {what}", answer, status))

    def pages(self) -> Counter[int]:
        """The statuses of answers that the node has made up."""
        return Counter(place.status for place in self.places if place.status)


def test_secrets_are_nowhere(
    cloud: Cloud, start_proxy: ProxyFactory, relay: Relay, campaign: Campaign
) -> None:
    """No token, no signature and no cookie is in any file, log, answer, page or list, after hits, misses,
    refusals, uploads, failures and jobs, requests that make no sense and an origin that is away; nor in what
    the system shows of the process."""
    secrets = Secrets(
        {
            "alice's token": cloud.identity.issue("alice"),
            "bob's token": cloud.identity.issue("bob"),
            "the operator's token": cloud.identity.issue("admin"),
            "a bad token": "gAAAAABnotreallyatoken0123456789",
            "a signature": "5ig0123456789abcdef5ig",
            "a cookie": "c00kie0123456789abcdef",
            "a password": "cGFzc3dvcmQ6cGFzc3dvcmQ=",
        }
    )
    auth = {"manage_auth": "keystone", "keystone_url": cloud.keystone.url}
    proxy = start_proxy(**auth, authorization_ttl=60)
    data, manage = Asker(secrets), Asker(secrets)
    for number in range(campaign.scale(1, 10)):
        _use(cloud, proxy, relay, data, manage, cut=number == 0)
    _talk_nonsense(proxy.port, data)
    _talk_nonsense(proxy.manage_port, manage)
    jobs = f"{proxy.manage_url}/cache/jobs"
    operator = secrets["the operator's token"]
    assert eventually(lambda: b'"queued"' not in request("GET", jobs, token=operator).body, 20)
    assert b'"done"' in manage.ask("GET", jobs, operator).body
    _look_around(proxy, manage, secrets["a bad token"])  # last of all: now everybody here is made to wait

    origin = Unreliable(cloud.glance.url)
    origin.up()
    failing = start_proxy(
        origin=origin.url, **auth, origin_timeout=1, origin_connect_timeout=1, head_timeout=1
    )
    try:
        _fail(cloud, failing, origin, data, manage)
    finally:
        origin.down()

    places = data.places + manage.places
    for node in (proxy, failing):
        places += _seen_of(node)
        node.kill()  # what is on disk then is what a stolen disk would show
        places += _files_of(node)
    found = secrets.found_in(places)
    pages = ", ".join(
        f"{count} {status}" for status, count in sorted((data.pages() + manage.pages()).items())
    )
    campaign.record(
        "Security",
        f"looked for {len(secrets.values)} secrets in files, logs, answers, pages, jobs, figures, /proc",
        times=len(places),
        clients=f"{len(found)} found; of the node's own answers {pages}",
        lost=", ".join(found) or "nothing",
    )
    assert not found
    assert {400, 405, 408, 414, 431, 502, 504} <= set(data.pages()), data.pages()
    assert {400, 401, 403, 404, 408, 414, 429, 431, 501, 502, 504} <= set(manage.pages()), manage.pages()
    assert any("index.sqlite" in place.where for place in places)
    assert any("quarantine" in place.where for place in places)
    assert any(b"GET /v2/images/" in place.content for place in places if place.where.endswith(".log"))


def _use(cloud: Cloud, proxy: Proxy, relay: Relay, data: Asker, manage: Asker, *, cut: bool) -> None:
    """Do all that can be done here with these secrets."""
    secrets, query = data.secrets, data.secrets.query
    alice, bob, admin = (secrets[f"{who} token"] for who in ("alice's", "bob's", "the operator's"))
    image = cloud.images.create(BODY)
    if cut:
        relay.cut(MIB // 2)
    url = proxy.url + image.path
    for token in (alice, alice, bob, secrets["a bad token"], None):
        for target in (url, url + query, proxy.url + "/v2/images" + query, proxy.url + "/v2/%0a" + query):
            for method in ("GET", "HEAD"):
                data.ask(method, target, token)
    queued = cloud.images.queue()
    data.ask("PUT", f"{proxy.url}/v2/images/{queued}/file{query}", alice, OCTETS, b"abc")
    wanted = json.dumps({"images": [image.id, cloud.images.create(BODY).id]}).encode()
    prefetch = f"{proxy.manage_url}/cache/prefetch"
    answer = manage.ask("POST", prefetch, admin, {"Content-Type": "application/json"}, wanted)
    assert answer.status == 202
    for token in (admin, bob, None):
        _look_around(proxy, manage, token)


def _look_around(proxy: Proxy, manage: Asker, token: str | None) -> None:
    """Ask the management site for all kinds of things."""
    query = manage.secrets.query
    for path in ("", "/images", "/jobs", "/events", "/x"):
        for target in (f"/cache{path}{query}", f"/cache{path}"):
            manage.ask("GET", proxy.manage_url + target, token)
    for target in ("/metrics", "/v2/cache", f"/v2/cache{query}", f"/v2/images{query}", "/v2/images/x"):
        manage.ask("GET", proxy.manage_url + target, token)


def _talk_nonsense(port: int, asker: Asker) -> None:
    """Requests that have secrets in them, and something wrong with them."""
    secrets = asker.secrets
    alice, query = secrets["alice's token"], secrets.query
    target = f"/v2/images/x/file{query}"
    fields = "".join(f"{name}: {value}\r\n" for name, value in secrets.fields.items())
    close = f"Host: localhost\r\nConnection: close\r\nX-Auth-Token: {alice}\r\n{fields}"
    chunked = "Transfer-Encoding: chunked\r\n"
    wrong = {
        "a field without a colon": f"GET {target} HTTP/1.1\r\n{close}{alice}\r\n\r\n",
        "a field that is no token": f"GET {target} HTTP/1.1\r\n{close}{alice} x: y\r\n\r\n",
        "a control character": f"GET {target} HTTP/1.1\r\n{close}X-Auth-Token: {alice}\1\r\n\r\n",
        "a field in two lines": f"GET {target} HTTP/1.1\r\n{close}X-Auth-Token:\r\n {alice}\r\n\r\n",
        "two hosts": f"GET {target} HTTP/1.1\r\n{close}Host: {alice}\r\n\r\n",
        "no host": f"GET {target} HTTP/1.1\r\nX-Auth-Token: {alice}\r\n\r\n",
        "no version": f"GET {target}\r\n\r\n",
        "another version": f"GET {target} HTTP/3.0\r\n{close}\r\n",
        "no target": f"GET {query} HTTP/1.1\r\n{close}\r\n",
        "a length that is none": f"PUT {target} HTTP/1.1\r\n{close}Content-Length: {alice}\r\n\r\n",
        "a coding that is none": f"PUT {target} HTTP/1.1\r\n{close}Transfer-Encoding: {alice}\r\n\r\n",
        "a chunk that is none": f"PUT {target} HTTP/1.1\r\n{close}{chunked}\r\n{alice}\r\n{alice}\r\n",
        "a trailer that is none": f"PUT {target} HTTP/1.1\r\n{close}{chunked}\r\n0\r\n{alice}\1\r\n\r\n",
        "a large head": f"GET {target} HTTP/1.1\r\n{close}" + f"X: {alice * 20}\r\n" * 100 + "\r\n",
        "a long field": f"GET {target} HTTP/1.1\r\n{close}X-Auth-Token: {alice * 1000}\r\n\r\n",
        "a long target": f"GET {target}{alice * 1000} HTTP/1.1\r\n{close}\r\n",
        "a target that is not UTF-8": f"GET /%ff{target} HTTP/1.1\r\n{close}\r\n",
        "CONNECT": f"CONNECT localhost:443{query} HTTP/1.1\r\n{close}\r\n",
        "TRACE": f"TRACE {target} HTTP/1.1\r\n{close}Max-Forwards: 0\r\n\r\n",
        "a method in small letters": f"get {target} HTTP/1.1\r\n{close}\r\n",
        "a method that is none": f"{alice.upper()[:20]} {target} HTTP/1.1\r\n{close}\r\n",
        "several ranges": f"GET {target} HTTP/1.1\r\n{close}Range: bytes={alice}\r\n\r\n",
    }
    for what, data in wrong.items():
        asker.say(port, what, data.encode())


def _fail(cloud: Cloud, node: Proxy, origin: Unreliable, data: Asker, manage: Asker) -> None:
    """Ask with secrets while everything behind the node goes wrong, and too slowly."""
    secrets = data.secrets
    alice, operator, query = secrets["alice's token"], secrets["the operator's token"], secrets.query
    image = cloud.images.create(SHORT)
    origin.spoil(image.path, faults.flip(5))
    assert data.ask("GET", node.url + image.path + query, alice).status == 502
    site, manage_site = node.url, node.manage_url
    html = {"Accept": "text/html"}
    questions = (
        partial(data.ask, "GET", site + image.path + query, alice),
        partial(data.ask, "GET", f"{site}/v2/images{query}", alice, html),
        partial(manage.ask, "GET", f"{manage_site}/v2/images{query}", operator),
        partial(manage.ask, "GET", f"{manage_site}/v2/images/{image.id}", operator, html),
    )
    with ThreadPoolExecutor(len(questions)) as pool:
        origin.hang = True
        assert {each.status for each in pool.map(lambda ask: ask(), questions)} == {504}
        origin.hang = False
        origin.down()
        assert {each.status for each in pool.map(lambda ask: ask(), questions)} == {502}
    assert data.ask("PUT", site + image.path + query, alice, OCTETS, b"abc").status == 502
    assert manage.ask("GET", f"{manage_site}/cache/ready{query}", operator).status == 400
    assert manage.ask("GET", f"{manage_site}/cache/ready", operator).status == 503
    late = f"GET {image.path}{query} HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {alice}\r\n"
    data.say(node.port, "a head that does not end", late.encode())
    manage.say(node.manage_port, "a head that does not end", late.encode())


def _seen_of(proxy: Proxy) -> list[Place]:
    process = Path("/proc", str(proxy.service.pid))
    names = ("cmdline", "environ", "comm")
    return [Place(f"/proc/PID/{name}", (process / name).read_bytes()) for name in names]


def _files_of(proxy: Proxy) -> list[Place]:
    files = [path for path in proxy.directory.rglob("*") if path.is_file()]
    logs = list(proxy.logs.glob(f"{proxy.directory.name}-*.log"))
    assert files
    assert logs
    return [Place(str(path.relative_to(path.parents[2])), path.read_bytes()) for path in [*files, *logs]]


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_files_are_for_nobody_else(tmp_path: Path, campaign: Campaign) -> None:
    """Whatever the umask: nobody else can read a file, or write into a directory, of the cache's or of what
    is in quarantine."""
    origin = Imitation(endless)
    modes: Counter[str] = Counter()
    masks = (0o000, 0o022)[: campaign.scale(1, 2)]
    try:
        for mask in masks:
            launch = Launch(tmp_path / f"{mask:03o}")
            launch.directory.mkdir()
            with _umask(mask):
                launch.start(*launch.flags(origin=origin.url, max_size="64MiB"))
            try:
                modes += _modes(launch)
            finally:
                launch.clean_up()
    finally:
        origin.close()
    campaign.record(
        "Security",
        f"files and directories made under an umask of {' and '.join(f'{mask:03o}' for mask in masks)}",
        times=modes.total(),
        clients=modes,
    )
    assert set(modes) == {"0600 files", "0600 files in quarantine", "0700 directories"}


def _modes(launch: Launch) -> Counter[str]:
    """Of everything below the cache directory, once there is something of each kind."""
    url = f"http://{LOOPBACK}:{launch.data_port}/v2/images/"
    for number in range(5):
        assert request("GET", f"{url}image-{number}/file").body == body_of(f"image-{number}")
    assert not download(f"{url}{WRONG}image/file").whole
    quarantine = launch.cache_dir / "quarantine"
    index = launch.cache_dir / "index.sqlite-wal"  # which is written behind
    assert eventually(lambda: any(quarantine.iterdir()) and index.exists(), 20)
    found = [launch.cache_dir, *launch.cache_dir.rglob("*")]
    assert {"index.sqlite", "lock", "quarantine"} <= {path.name for path in found}
    modes: Counter[str] = Counter()
    for path in found:
        kind = "directories" if path.is_dir() else "files"
        kind += " in quarantine" if path.parent == quarantine else ""
        modes[f"{stat.S_IMODE(path.lstat().st_mode):04o} {kind}"] += 1
    return modes
