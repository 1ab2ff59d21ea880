"""The programs that manage the cache of a Glance, unmodified, with this node for that Glance."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import frozen

from tests.cloud.client import call, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.processes import environment
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay

BODY = Payload(4 * MIB, seed=31)
NOBODYS = "00000000-0000-0000-0000-000000000000"


@frozen
class Done:
    """What became of a command."""

    code: int
    out: str
    err: str


@frozen(eq=False)
class Shell:
    """A user's shell, and the address of the node that is to be managed."""

    cloud: Cloud
    user: str
    url: str

    def run(self, program: str, *arguments: str) -> Done:
        env = {**self.cloud.client_environment(self.user), "OS_IMAGE_ENDPOINT_OVERRIDE": self.url}
        command = [str(self.cloud.installation.bin / program), *arguments]
        done = subprocess.run(command, env=environment(env), capture_output=True, text=True, timeout=120)
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, program: str, *arguments: str) -> str:
        """The output of a command that succeeds and does not complain."""
        done = self.run(program, *arguments)
        assert done.code == 0, done
        assert not re.search(r"unable|not permitted|failed|error", done.err, re.IGNORECASE), done
        return done.out

    def glance_cache_manage(self, *arguments: str) -> str:
        parts = urlsplit(self.url)
        where = ("--host", str(parts.hostname), "--port", str(parts.port), "--force", "--verbose")
        return self.ok("glance-cache-manage", *where, *arguments)

    def glance(self, *arguments: str) -> str:
        return self.ok("glance", "--os-image-url", self.url, *arguments)

    def openstack(self, *arguments: str) -> str:
        return self.ok("openstack", "cached", "image", *arguments)


@frozen(eq=False)
class Node:
    """The node, as its own API shows it."""

    proxy: Proxy
    relay: Relay
    cloud: Cloud

    def fetched(self) -> Image:
        """An image that is here."""
        image = self.cloud.images.create(BODY)
        self.proxy.download(image, self.cloud.token(image.owner))
        self.proxy.until_complete(image)
        return image

    def waiting(self, shell: Shell) -> Image:
        """An image that is queued and does not get on."""
        self.relay.hold(MIB)
        image = self.cloud.images.create(BODY)
        call("PUT", f"{self.proxy.manage_url}/v2/cache/{image.id}", token=self.cloud.token(shell.user))
        return image

    def cached(self) -> list[str]:
        return [str(image["image_id"]) for image in self._state()["cached_images"]]

    def queued(self) -> list[str]:
        return [str(image_id) for image_id in self._state()["queued_images"]]

    def _state(self) -> dict[str, Any]:
        state = call("GET", f"{self.proxy.manage_url}/v2/cache", token=self.cloud.token("admin")).json()
        return dict(state)


@pytest.fixture
def node(cloud: Cloud, proxy: Proxy, relay: Relay) -> Iterator[Node]:
    """A node with nothing in it and nothing to do."""
    yield Node(proxy, relay, cloud)
    relay.hold(None)
    call("DELETE", f"{proxy.manage_url}/v2/cache")


@pytest.fixture
def admin(cloud: Cloud, proxy: Proxy) -> Shell:
    return Shell(cloud, "admin", proxy.manage_url)


def rows(table: str) -> list[list[str]]:
    """The cells of a table that a program drew, its head first."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


class TestGlanceCacheManage:
    """`glance-cache-manage`, which speaks the older paths."""

    def test_list_cached(self, node: Node, admin: Shell) -> None:
        """Each image with when it was used, its size and how often it was hit."""
        assert "No cached images." in admin.glance_cache_manage("list-cached")
        image = node.fetched()
        out = admin.glance_cache_manage("list-cached")
        assert "Found 1 cached images..." in out
        head, row = rows(out)
        assert head == ["ID", "Last Accessed (UTC)", "Last Modified (UTC)", "Size", "Hits"]
        assert (row[0], row[3], row[4]) == (image.id, str(BODY.size), "0")
        assert all(re.match(r"20\d\d-\d\d-\d\dT", when) for when in row[1:3])

    def test_list_queued(self, node: Node, admin: Shell) -> None:
        """What is being fetched is queued."""
        assert "No queued images." in admin.glance_cache_manage("list-queued")
        image = node.waiting(admin)
        assert rows(admin.glance_cache_manage("list-queued")) == [["ID"], [image.id]]

    def test_queue_image(self, node: Node, admin: Shell) -> None:
        """An image is fetched, once."""
        image = node.cloud.images.create(BODY)
        assert f"Queued image {image.id} for caching" in admin.glance_cache_manage("queue-image", image.id)
        node.proxy.until_complete(image)
        assert node.relay.moved(image.path) == BODY.size
        assert image.id in admin.glance_cache_manage("list-cached")

    def test_delete_cached_image(self, node: Node, admin: Shell) -> None:
        """One image goes, another stays."""
        image, other = node.fetched(), node.fetched()
        out = admin.glance_cache_manage("delete-cached-image", image.id)
        assert f"Deleted cached image {image.id}" in out
        assert node.cached() == [other.id]

    def test_delete_all_cached_images(self, node: Node, admin: Shell) -> None:
        """All go, and how many there were is said."""
        node.fetched()
        node.fetched()
        assert "Deleted 2 cached images" in admin.glance_cache_manage("delete-all-cached-images")
        assert node.cached() == []

    def test_delete_queued_image(self, node: Node, admin: Shell) -> None:
        """One leaves the queue, another stays."""
        image, other = node.waiting(admin), node.waiting(admin)
        out = admin.glance_cache_manage("delete-queued-image", image.id)
        assert f"Deleted queued image {image.id}" in out
        assert node.queued() == [other.id]

    def test_delete_all_queued_images(self, node: Node, admin: Shell) -> None:
        """All leave the queue, and how many there were is said."""
        node.waiting(admin)
        node.waiting(admin)
        node.waiting(admin)
        assert "Deleted 3 queued images" in admin.glance_cache_manage("delete-all-queued-images")
        assert node.queued() == []


class TestGlance:
    """`glance cache-*`, which asks for `/versions` first."""

    def test_cache_list(self, node: Node, admin: Shell) -> None:
        """What is cached, and what is queued."""
        cached, queued = node.fetched(), node.waiting(admin)
        head, *images = rows(admin.glance("cache-list"))
        assert head[:2] == ["ID", "State"]
        assert [(row[0], row[1], row[4]) for row in images] == [
            (cached.id, "cached", str(BODY.size)),
            (queued.id, "queued", "N/A"),
        ]

    def test_cache_queue(self, node: Node, admin: Shell) -> None:
        """Images are fetched, once each."""
        images = [node.cloud.images.create(BODY) for _ in range(2)]
        admin.glance("cache-queue", *(image.id for image in images))
        for image in images:
            node.proxy.until_complete(image)
            assert node.relay.moved(image.path) == BODY.size

    def test_cache_queue_in_vain(self, node: Node, admin: Shell) -> None:
        """What cannot be fetched is not queued, for the reasons that Glance would give."""
        empty = node.cloud.images.queue()
        done = admin.run("glance", "--os-image-url", admin.url, "cache-queue", NOBODYS, empty)
        assert f"Image {NOBODYS} not found." in done.err
        assert "Only images with status active can be targeted for queueing" in done.err
        assert node.queued() == []

    def test_cache_delete(self, node: Node, admin: Shell) -> None:
        """Images leave cache and queue; one that is in neither is no error, one that does not exist is."""
        cached, kept, queued = node.fetched(), node.fetched(), node.waiting(admin)
        elsewhere = node.cloud.images.create(BODY)
        admin.glance("cache-delete", cached.id, queued.id, elsewhere.id)
        assert (node.cached(), node.queued()) == ([kept.id], [])
        done = admin.run("glance", "--os-image-url", admin.url, "cache-delete", NOBODYS)
        assert f"Image {NOBODYS} not found." in done.err

    @pytest.mark.parametrize("target", [None, "both", "cache", "queue"])
    def test_cache_clear(self, node: Node, admin: Shell, target: str | None) -> None:
        """Cache, queue or both."""
        cached, queued = node.fetched(), node.waiting(admin)
        admin.glance("cache-clear", *(("--target", target) if target else ()))
        assert node.cached() == ([cached.id] if target == "queue" else [])
        assert node.queued() == ([queued.id] if target == "cache" else [])

    def test_cache_nodes_list(self, node: Node, admin: Shell) -> None:
        """An image that is here is on this node."""
        image, other = node.fetched(), node.cloud.images.create(BODY)
        assert rows(admin.glance("cache-nodes-list", image.id)) == [["Node Reference URL"], [admin.url]]
        assert rows(admin.glance("cache-nodes-list", other.id)) == [["Node Reference URL"]]

    def test_cache_clean(self, node: Node, admin: Shell) -> None:
        """What a client left half-fetched goes, what is whole stays."""
        whole, partial = node.fetched(), node.cloud.images.create(BODY)
        part = {"Range": "bytes=0-65535"}
        node.proxy.get(partial, node.cloud.token(partial.owner), headers=part)
        assert partial.id in node.proxy.images()
        node.proxy.until(lambda: not node.proxy.images()[partial.id]["filling"], "the end of the fill")
        admin.glance("cache-clean")
        assert set(node.proxy.images()) == {whole.id}

    def test_cache_prune(self, node: Node, admin: Shell) -> None:
        """A cache within its limits has nothing to lose."""
        image = node.fetched()
        assert "Pruned 0 file(s), 0 byte(s)." in admin.glance("cache-prune")
        assert node.cached() == [image.id]


class TestOpenStack:
    """`openstack cached image *`, which looks the image up first."""

    def test_list(self, node: Node, admin: Shell) -> None:
        """What is cached, and what is queued."""
        cached, queued = node.fetched(), node.waiting(admin)
        listed = json.loads(admin.openstack("list", "-f", "json"))
        assert [(row["ID"], row["State"], row["Size"]) for row in listed] == [
            (cached.id, "cached", BODY.size),
            (queued.id, "queued", "N/A"),
        ]

    def test_queue(self, node: Node, admin: Shell) -> None:
        """By id and by name."""
        image, named = (node.cloud.images.create(BODY) for _ in range(2))
        rename = {"op": "replace", "path": "/name", "value": "a name of its own"}
        node.cloud.images.change(named.owner, named.id, rename)
        admin.openstack("queue", image.id, named.id)
        for one in (image, named):
            node.proxy.until_complete(one)
            assert node.relay.moved(one.path) == BODY.size

    def test_queue_in_vain(self, node: Node, admin: Shell) -> None:
        """What cannot be fetched is not queued."""
        empty = node.cloud.images.queue()
        done = admin.run("openstack", "cached", "image", "queue", NOBODYS, empty)
        assert done.code != 0
        assert "Only images with status active can be targeted for queueing" in done.err
        assert node.queued() == []

    def test_delete(self, node: Node, admin: Shell) -> None:
        """Images leave cache and queue."""
        cached, kept, queued = node.fetched(), node.fetched(), node.waiting(admin)
        admin.openstack("delete", cached.id, queued.id)
        assert (node.cached(), node.queued()) == ([kept.id], [])

    @pytest.mark.parametrize("target", [None, "cache", "queue"])
    def test_clear(self, node: Node, admin: Shell, target: str | None) -> None:
        """Cache, queue or both."""
        cached, queued = node.fetched(), node.waiting(admin)
        admin.openstack("clear", *((f"--{target}",) if target else ()))
        assert node.cached() == ([cached.id] if target == "queue" else [])
        assert node.queued() == ([queued.id] if target == "cache" else [])


def test_versions(proxy: Proxy, cloud: Cloud, relay: Relay) -> None:
    """The version document is Glance's, with the cache's versions in it whether Glance has a cache or not."""
    for path, status in (("/", 300), ("/versions", 200)):
        answer = request("GET", proxy.manage_url + path)
        assert answer.status == status
        theirs = request("GET", cloud.glance.url + path).json()["versions"]
        ours = {version["id"]: version for version in answer.json()["versions"]}
        assert set(ours) == {version["id"] for version in theirs} | {"v2.14", "v2.16", "v2.18"}
        for name in ("v2.14", "v2.16", "v2.18"):
            assert ours[name]["links"][0]["href"] == f"{proxy.manage_url}/v2/"
            assert ours[name]["status"] in ("SUPPORTED", "CURRENT")


@pytest.fixture(scope="module")
def asking_proxy(start_proxy: ProxyFactory, cloud: Cloud) -> Proxy:
    """A node that asks Keystone who its callers are."""
    return start_proxy(manage_auth="keystone", keystone_url=cloud.keystone.url)


class TestWhoMay:
    """The same programs, in front of a node that wants to know who they are."""

    def test_admin(self, cloud: Cloud, asking_proxy: Proxy, relay: Relay) -> None:
        """An administrator may."""
        admin = Shell(cloud, "admin", asking_proxy.manage_url)
        image = cloud.images.create(BODY)
        admin.glance("cache-queue", image.id)
        assert image.id in admin.glance_cache_manage("list-cached") + admin.glance_cache_manage("list-queued")
        assert image.id in admin.openstack("list")

    def test_others(self, cloud: Cloud, asking_proxy: Proxy, relay: Relay) -> None:
        """Others may not, and are told so in each program's own words."""
        alice = Shell(cloud, "alice", asking_proxy.manage_url)
        image = cloud.images.create(BODY)
        parts = urlsplit(alice.url)
        where = ("--host", str(parts.hostname), "--port", str(parts.port))
        assert "Not authorized" in alice.run("glance-cache-manage", *where, "list-cached").out
        done = alice.run("glance", "--os-image-url", alice.url, "cache-queue", image.id)
        assert f"You are not permitted to queue the image '{image.id}' for caching." in done.err
        done = alice.run("openstack", "cached", "image", "queue", image.id)
        assert done.code != 0
        assert "403" in done.err


@pytest.fixture(scope="module")
def serving_proxy(start_proxy: ProxyFactory, cloud: Cloud) -> Proxy:
    """A node that answers on its data site, too."""
    known = {"manage_auth": "keystone", "keystone_url": cloud.keystone.url}
    return start_proxy(**known, cache_api_on_data_site="yes")


class TestDataSite:
    """The same paths where images are downloaded."""

    def test_glances_own(self, proxy: Proxy, cloud: Cloud, relay: Relay) -> None:
        """By default they are Glance's, as everything else there is, and so is the version document."""
        for path in ("/v2/cache", "/v2/cached_images", "/versions"):
            answer = request("GET", proxy.url + path, token=cloud.token("admin"))
            theirs = request("GET", cloud.glance.url + path, token=cloud.token("admin"))
            assert (answer.status, len(relay.of(path))) == (theirs.status, 1)

    def test_this_nodes(self, cloud: Cloud, serving_proxy: Proxy, relay: Relay) -> None:
        """They are this node's if it is told so, for those who may, and images are still downloaded there."""
        admin, image = Shell(cloud, "admin", serving_proxy.url), cloud.images.create(BODY)
        admin.glance("cache-queue", image.id)
        serving_proxy.until(lambda: image.id in admin.glance_cache_manage("list-cached"), "the image")
        assert [row["ID"] for row in json.loads(admin.openstack("list", "-f", "json"))] == [image.id]
        got = serving_proxy.download(image, cloud.token(image.owner))
        assert (got.status, got.sha512) == (200, BODY.sha512)
        assert relay.moved(image.path) == BODY.size
        assert not relay.of("/v2/cache")
        admin.openstack("clear")
        assert "No cached images." in admin.glance_cache_manage("list-cached")

    def test_who_may(self, cloud: Cloud, serving_proxy: Proxy, relay: Relay) -> None:
        """Others may not; what else they do there goes to Glance."""
        for token, status in ((None, 401), ("stolen", 401), (cloud.token("alice"), 403)):
            for method in ("GET", "DELETE"):
                assert request(method, serving_proxy.url + "/v2/cache", token=token).status == status
                assert (
                    request(method, serving_proxy.url + "/v2.16/cached_images", token=token).status == status
                )
        assert request("GET", serving_proxy.url + "/v2/images", token=cloud.token("alice")).status == 200
        assert request("GET", serving_proxy.url + "/versions").status == 200
        assert not relay.of("/v2/cache")
