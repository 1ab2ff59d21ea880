"""The web page in a real browser, on a real node in front of a real Glance."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.cloud.client import call
from tests.cloud.cloud import Cloud
from tests.cloud.fixtures import ProxyFactory
from tests.cloud.imitation import Imitation
from tests.cloud.payload import Payload
from tests.cloud.proxy import Proxy
from tests.cloud.relay import Relay
from tests.integration.browser import Browser, browser
from tests.integration.endless import endless
from tests.integration.launching import Launch
from txglancecache.extents import Extents
from txglancecache.store.directory import Directory
from txglancecache.store.schema import ENTRIES, Record, connect

MIB = 1 << 20


@pytest.fixture(scope="module")
def node(cloud: Cloud, start_proxy: ProxyFactory) -> Proxy:
    """A node that asks nobody who they are, in front of a Glance that does not either."""
    return start_proxy(origin=cloud.open_images.url)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture
def page(node: Proxy, window: Browser) -> Browser:
    """The page of a node that holds nothing."""
    node.purge()
    window.open(f"{node.manage_url}/cache/")
    window.until(lambda: window.text("#ready") == "ready", "a ready node")
    window.complaints()
    return window


@pytest.fixture(autouse=True)
def quiet(window: Browser) -> Iterator[None]:
    """The browser has nothing to complain about, such as a script's error or a breach of the policy."""
    yield
    assert window.complaints() == []


def row(page: Browser, image_id: str) -> str:
    return f'#image-rows tr[data-id="{image_id}"]'


def test_what_is_cached_is_shown(cloud: Cloud, node: Proxy, page: Browser) -> None:
    """An image appears by itself, with its size, how much of it is there, and its hits."""
    image = cloud.open_images.create(Payload(3 * MIB))
    assert page.find("#images-empty").is_displayed()
    node.download(image)
    node.until_complete(image)
    node.download(image)
    line = row(page, image.id)
    page.until(lambda: page.all(line) and page.text(f"{line} .hits") == "1", "a row with a hit")
    assert page.text(f"{line} .size") == "3.0 MiB"
    assert page.text(f"{line} .share") == "complete"
    assert "1 hits" in page.text("#ratio-legend")


def test_a_partial_image_is_a_strip(cloud: Cloud, node: Proxy, page: Browser) -> None:
    """What is there of it is drawn where it is; the details name the extents."""
    image = cloud.open_images.create(Payload(8 * MIB))
    node.download(image, headers={"Range": "bytes=0-99"})
    node.download(image, headers={"Range": f"bytes={5 * MIB}-{5 * MIB + 99}"})
    line = row(page, image.id)
    page.until(lambda: len(page.all(f"{line} .strip span")) == 2, "two pieces")
    assert "partial" in page.text(f"{line} .marks")
    page.find(f"{line} .id").click()
    page.until(lambda: page.find("#details").is_displayed(), "the details")
    assert f"0\u2013{MIB}" in page.text("#details-facts")
    page.find("#details button").click()


def test_a_fetch_is_watched_while_it_goes_on(
    cloud: Cloud, relay: Relay, start_proxy: ProxyFactory, window: Browser
) -> None:
    """Its progress moves, and when it is over the image is complete."""
    image = cloud.images.create(Payload(24 * MIB))
    proxy = start_proxy()
    relay.pace(4 * MIB)
    page = window
    page.open(f"{proxy.manage_url}/cache/")
    with ThreadPoolExecutor() as pool:
        pool.submit(proxy.download, image, cloud.token("alice"))
        now = "return document.querySelector('#fill-list [role=progressbar]')?.getAttribute('aria-valuenow')"
        first = page.until(lambda: page.run(now), "a progress bar")
        page.until(lambda: int(page.run(now) or "0") > int(first), "progress")
        assert "/s" in page.run("return document.querySelector('#fill-list').textContent")
        page.until(lambda: page.all(row(page, image.id)), "a row")
        page.until(lambda: page.text(f"{row(page, image.id)} .share") == "complete", "completion", 30)


def test_buttons_ask_before_they_drop(cloud: Cloud, node: Proxy, page: Browser) -> None:
    """Pin, verify and purge do what they say; a purge that is not confirmed does nothing."""
    image = cloud.open_images.create(Payload(2 * MIB))
    node.download(image)
    node.until_complete(image)
    line = row(page, image.id)
    page.find(f'{line} [data-do="pin"]').click()
    page.until(lambda: "pinned" in page.text(f"{line} .marks"), "the pin")
    assert node.entry(image)["pinned"]
    page.find(f'{line} [data-do="verify"]').click()
    page.until(lambda: "verify" in page.text("#job-rows") and "done" in page.text("#job-rows"), "the job")
    page.find(f'{line} [data-do="purge"]').click()
    page.until(lambda: page.find("#confirm").is_displayed(), "the question")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.find("#confirm").is_displayed(), "no question")
    assert node.entry(image)
    page.find(f'{line} [data-do="purge"]').click()
    page.find("#confirm-yes").click()
    page.until(lambda: not page.all(line), "no row")
    assert node.entry(image) is None


def test_an_image_is_prefetched_by_hand(cloud: Cloud, node: Proxy, page: Browser) -> None:
    """By the keyboard alone; why one cannot be prefetched is said."""
    image = cloud.open_images.create(Payload(2 * MIB))
    field = page.find("#prefetch-ids")
    field.send_keys(image.id + Keys.ENTER)
    page.until(lambda: page.all(row(page, image.id)), "the image")
    node.until_complete(image)
    page.until(lambda: "prefetch" in page.text("#job-rows"), "the job")
    field.send_keys("00000000-0000-0000-0000-000000000000" + Keys.ENTER)
    page.until(lambda: "the origin answered 404" in page.text("#job-rows"), "the reason")


def test_events_come_as_they_happen(cloud: Cloud, node: Proxy, page: Browser) -> None:
    """Without asking for the page again."""
    page.until(lambda: page.text("#live") == "live", "the stream")
    image = cloud.open_images.create(Payload(MIB))
    node.download(image)
    page.until(lambda: image.id in page.text("#events"), "its events")


def test_events_go_on_after_a_restart(tmp_path: Path, window: Browser) -> None:
    """What the next process does is shown, though it counts its events anew, and nothing twice, neither then
    nor when it is only the connection that was lost."""
    origin, node = Imitation(endless), Launch(tmp_path)
    flags = node.flags(origin=origin.url)

    def happens(times: int) -> list[str]:
        """Something does; the kinds of all that the process knows of."""
        for _ in range(times):
            assert node.ask("PUT", "/cache/images/image-0/pin")[0] == 204
            assert node.ask("DELETE", "/cache/images/image-0/pin")[0] == 204
        return [event["kind"] for event in node.ask("GET", "/cache/events")[1]["events"]]

    def shown() -> list[str]:
        script = "return [...document.querySelectorAll('#events li')].map((e) => e.children[1].textContent)"
        kinds: list[str] = window.run(script)
        return kinds[::-1]

    try:
        node.start(*flags)
        assert call("GET", f"http://127.0.0.1:{node.data_port}/v2/images/image-0/file").status == 200
        node.until(lambda: node.ask("GET", "/cache/images/image-0")[1]["complete"])
        window.open(f"http://127.0.0.1:{node.manage_port}/cache/")
        window.until(lambda: window.text("#live") == "live", "the stream")
        before = happens(10)
        window.until(lambda: shown() == before, "what happened before the restart")
        window.run("window.stop()")
        window.until(lambda: window.text("#live") == "not connected", "the stream broken off")
        before = happens(2)
        window.until(lambda: shown() == before, "what happened behind its back")
        assert node.stop() == (0, "")
        window.until(lambda: window.text("#live") == "not connected", "the end of the stream")
        node.start(*flags)
        happens(2)
        window.until(lambda: window.text("#live") == "live", "the stream again")
        after = happens(2)
        window.until(lambda: shown() == before + after, "what happened after the restart")
    finally:
        node.clean_up()
        origin.close()
    # The browser notes that nobody listened for a while; no other complaint is in order.
    assert all("ERR_" in complaint for complaint in window.complaints())


def test_search_and_order(cloud: Cloud, node: Proxy, page: Browser) -> None:
    """The search finds a part of an id; a click on a heading sorts, another turns it round."""
    images = [cloud.open_images.create(Payload(size * MIB)) for size in (1, 3, 2)]
    for image in images:
        node.download(image)
    page.until(lambda: len(page.all("#image-rows tr")) == 3, "three rows")
    page.find('[data-sort="size"] button').click()
    page.until(
        lambda: [cell.text for cell in page.all(".size")] == ["3.0 MiB", "2.0 MiB", "1.0 MiB"], "order"
    )
    assert page.find('[data-sort="size"]').get_attribute("aria-sort") == "descending"
    page.find('[data-sort="size"] button').click()
    page.until(
        lambda: [cell.text for cell in page.all(".size")] == ["1.0 MiB", "2.0 MiB", "3.0 MiB"], "order"
    )
    page.find("#search").send_keys(images[1].id[:13])
    page.until(lambda: len(page.all("#image-rows tr")) == 1, "one row")


def test_light_and_dark(node: Proxy, page: Browser) -> None:
    """The page follows the system, and the button."""
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(ground)
    page.find("#theme").click()
    assert page.run(ground) != light
    assert page.find("#theme").get_attribute("aria-pressed") == "true"


def test_everything_has_a_name(cloud: Cloud, node: Proxy, page: Browser) -> None:
    """No control is without a name for a screen reader, and the page has one language and one heading."""
    node.download(cloud.open_images.create(Payload(MIB)))
    page.until(lambda: page.all("#image-rows tr"), "a row")
    nameless = page.run(
        """
        const named = (e) => e.textContent.trim() || e.getAttribute("aria-label")
          || e.getAttribute("aria-labelledby") || e.labels?.length;
        return [...document.querySelectorAll("button, input, select, [role=img], [role=progressbar], svg")]
          .filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML);
        """
    )
    assert nameless == []
    assert page.find("html").get_attribute("lang") == "en"
    assert len(page.all("h1")) == 1


def test_nothing_comes_from_elsewhere(node: Proxy, page: Browser) -> None:
    """Every resource is the node's own, and the policy forbids any other."""
    urls = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert urls
    assert all(url.startswith(node.manage_url) for url in urls)
    policy = call("GET", f"{node.manage_url}/cache/", headers={"Accept": "text/html"}).headers[
        "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_thousand_images(cloud: Cloud, start_proxy: ProxyFactory, window: Browser) -> None:
    """A full list is drawn in reasonable time, and stays responsive while it is kept up to date."""
    proxy = start_proxy(origin=cloud.open_images.url)
    proxy.stop()
    _populate(proxy.cache_dir, proxy.origin, 1000)
    proxy.start()
    window.open(f"{proxy.manage_url}/cache/")
    window.until(lambda: window.find("#more").is_displayed(), "more than one page")
    window.find("#more").click()
    window.until(
        lambda: window.run("return document.querySelectorAll('#image-rows tr').length") == 1000, "all rows"
    )
    window.find("#search").send_keys("00000999")
    window.until(lambda: len(window.all("#image-rows tr")) == 1, "the one that was searched for", 10)


def _populate(path: Path, origin: str, count: int) -> None:
    """Make a cache directory with so many small complete images, as a node would have left it."""
    directory = Directory.open(path)
    database = connect(directory.index_path)
    body = b"x" * 1000
    records = []
    for number in range(count):
        image_id = f"{number:08}-0000-4000-8000-000000000000"
        key = hashlib.sha256(f"{origin}\n{image_id}".encode()).hexdigest()[:40]
        fd = directory.create_body(f"{key}.{number:08x}", len(body), b"")
        os.write(fd, body)
        os.close(fd)
        records.append(
            Record(
                key=key,
                origin=origin,
                image_id=image_id,
                body=f"{key}.{number:08x}",
                size=len(body),
                algorithm="sha256",
                digest=hashlib.sha256(body).hexdigest(),
                checksum=None,
                extents=Extents.of((0, len(body))),
                verified=True,
                hits=number,
                created=1e9,
                last_access=1e9 + number,
                pinned=False,
            )
        )
    with database:
        ENTRIES.insert(database, records)
    database.close()
    directory.close()


def test_a_node_that_asks_for_a_token(cloud: Cloud, start_proxy: ProxyFactory, window: Browser) -> None:
    """Anybody gets the page; what it shows needs a token, which it asks for and does not keep."""
    proxy = start_proxy(manage_auth="keystone", keystone_url=cloud.keystone.url)
    page = window
    page.open(f"{proxy.manage_url}/cache/")
    page.until(lambda: page.find("#login").is_displayed(), "the question")
    assert page.text("#node") == ""
    page.find("#token").send_keys("nonsense" + Keys.ENTER)
    page.until(lambda: "not accepted" in page.text("#login-problem"), "a refusal")
    page.find("#token").send_keys(cloud.token("admin") + Keys.ENTER)
    page.until(lambda: page.text("#node") != "", "the node")
    kept = page.run("return JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert kept == '[{},{},""]'
    # The browser notes every answer that is no success; no other complaint is in order.
    assert all("401" in complaint for complaint in page.complaints())
