"""Prefetching from a real Glance: with the caller's token, the node's own account, and over a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.client import call, request
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.glance import FILE_STORE, SWIFT_STORE
from tests.cloud.identity import PASSWORD
from tests.cloud.images import Image
from tests.cloud.payload import MIB, Payload
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay

BODY = Payload(16 * MIB, seed=77)


@pytest.fixture(scope="module")
def account(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file that names the node's own account."""
    path = tmp_path_factory.mktemp("etc") / "txglancecache.conf"
    path.write_text(
        "[glancecache]\n"
        "[service_auth]\n"
        "auth_type = password\n"
        f"auth_url = {cloud.keystone.url}\n"
        "username = admin\n"
        f"password = {PASSWORD}\n"
        "project_name = admin\n"
        "user_domain_id = default\n"
        "project_domain_id = default\n"
    )
    return path


@pytest.fixture
def node(start_proxy: ProxyFactory) -> Proxy:
    return start_proxy()


def prefetch(node: Proxy, *images: Image | str, token: str | None = None, priority: int = 0) -> list[Any]:
    ids = [image if isinstance(image, str) else image.id for image in images]
    answer = request(
        "POST",
        f"{node.manage_url}/cache/prefetch",
        token=token,
        headers={"Content-Type": "application/json"},
        body=json.dumps({"images": ids, "priority": priority}).encode(),
    )
    assert answer.status == 202, answer.body
    jobs: list[Any] = answer.json()["jobs"]
    return jobs


def job(node: Proxy, number: int) -> Any:
    return call("GET", f"{node.manage_url}/cache/jobs/{number}").json()


def over(node: Proxy, number: int) -> Any:
    node.until(lambda: job(node, number)["state"] not in ("queued", "running"), f"job {number}", 60)
    return job(node, number)


@pytest.mark.parametrize("store", [FILE_STORE, SWIFT_STORE])
def test_the_callers_token(cloud: Cloud, relay: Relay, node: Proxy, store: str) -> None:
    """An image that its owner has prefetched is a hit for its owner, and still nobody else's."""
    image = cloud.images.create(BODY, store=store)
    token = cloud.token("alice")
    (queued,) = prefetch(node, image, token=token)
    assert over(node, queued["id"])["state"] == "done"
    relay.calm()
    assert node.download(image, token).cache_status.endswith("hit")
    assert relay.moved(image.path) == 0
    assert node.get(image, cloud.token("bob")).status == 404


def test_a_download_joins_a_prefetch(cloud: Cloud, relay: Relay, node: Proxy) -> None:
    """Both are one transfer from Glance."""
    image = cloud.images.create(BODY)
    token = cloud.token("alice")
    relay.pace(8 * MIB)
    (queued,) = prefetch(node, image, token=token)
    node.until_holds(image, 2 * MIB)
    download = node.download(image, token)
    assert download.sha512 == image.payload.sha512
    assert over(node, queued["id"])["state"] == "done"
    assert BODY.size <= relay.moved(image.path) < BODY.size + MIB


def test_what_glance_refuses(cloud: Cloud, node: Proxy) -> None:
    """Images that are unknown, another's, or not active are refused at once to who has a token."""
    token = cloud.token("bob")
    image = cloud.images.create(Payload(MIB, seed=3))
    waiting = cloud.images.queue("bob")
    url = f"{node.manage_url}/cache/prefetch"
    for wanted, status in ((image.id, 404), ("no-such-image", 404), (waiting, 400)):
        body = json.dumps({"images": [wanted]}).encode()
        answer = request("POST", url, token=token, headers={"Content-Type": "application/json"}, body=body)
        assert answer.status == status
    assert call("GET", f"{node.manage_url}/cache/jobs").json()["jobs"] == []


def test_without_any_credentials_the_job_says_so(cloud: Cloud, node: Proxy) -> None:
    """Nobody's token and no account: the job fails, and others go on."""
    image = cloud.images.create(Payload(MIB, seed=4))
    (queued,) = prefetch(node, image)
    failed = over(node, queued["id"])
    assert failed["state"] == "failed"
    assert "[service_auth]" in failed["error"]
    (other,) = prefetch(node, image, token=cloud.token("alice"))
    assert over(node, other["id"])["state"] == "done"


def test_the_nodes_own_account(cloud: Cloud, relay: Relay, start_proxy: ProxyFactory, account: Path) -> None:
    """It serves jobs that were queued without a token, and those that a restart has left."""
    node = start_proxy(config_file=account)
    first, second, third = (cloud.images.create(Payload(12 * MIB, seed=seed)) for seed in (5, 6, 7))
    (queued,) = prefetch(node, first)
    assert over(node, queued["id"])["state"] == "done"
    relay.pace(3 * MIB)
    jobs = prefetch(node, second, third, token=cloud.token("alice"))
    node.until_holds(second, 2 * MIB)
    node.restart()
    relay.pace(None)
    for one in jobs:
        assert over(node, one["id"])["state"] == "done"
    token = cloud.token("alice")
    for image in (first, second, third):
        assert node.download(image, token).cache_status.endswith("hit")
    # What had come before the restart was not fetched again.
    assert relay.moved(second.path) < 12 * MIB + 2 * MIB


def test_a_token_that_ends_in_the_queue(
    cloud: Cloud, relay: Relay, start_proxy: ProxyFactory, account: Path
) -> None:
    """The node's own account fetches what is left; for whom Glance forbids an image it does not."""
    node = start_proxy(config_file=account)
    images = [cloud.images.create(Payload(6 * MIB, seed=seed)) for seed in (9, 10, 11, 12)]
    token = cloud.identity.issue("alice")  # one of its own, which nobody else needs
    relay.pace(3 * MIB)
    jobs = prefetch(node, *images, token=token)
    node.until_holds(images[0], MIB)
    cloud.identity.revoke(token)
    relay.pace(None)
    assert [over(node, one["id"])["state"] for one in jobs] == ["done"] * 4
    refused = request(
        "POST",
        f"{node.manage_url}/cache/prefetch",
        token=cloud.token("bob"),
        headers={"Content-Type": "application/json"},
        body=json.dumps({"images": [images[0].id]}).encode(),
    )
    assert refused.status == 404


def test_tokens_are_nowhere_on_disk(cloud: Cloud, relay: Relay, node: Proxy) -> None:
    """Neither in the index nor in the log, while a job waits and after it is done."""
    image = cloud.images.create(Payload(8 * MIB, seed=8))
    token = cloud.token("alice")
    relay.pace(2 * MIB)
    (queued,) = prefetch(node, image, token=token)
    node.until_holds(image, MIB)
    for _ in range(2):
        written = [path for path in node.cache_dir.iterdir() if path.name.startswith("index")]
        assert written
        assert all(token.encode() not in path.read_bytes() for path in written)
        assert token not in node.service.logged()
        relay.pace(None)
        over(node, queued["id"])
