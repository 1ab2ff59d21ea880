"""What Glance's answers mean: permission, identity, and parts of bodies."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txglancecache.errors import (
    FillFailed,
    ImageChanged,
    OriginError,
    OriginOverloaded,
    OriginProtocolError,
    RangesUnsupported,
    SourceRefused,
)
from txglancecache.headers import first
from txglancecache.image import Image
from txglancecache.origin.client import Head, OriginURL
from txglancecache.origin.glance import (
    Allowed,
    Changed,
    Denied,
    Glance,
    ImageSource,
    Uncacheable,
    Verdict,
    describe,
)

TARGET = b"/v2/images/1/file?prefer=fast"
HEADERS = [(b"Host", b"glance"), (b"X-Auth-Token", b"t"), (b"Range", b"bytes=0-9"), (b"If-Match", b'"x"')]


@define(eq=False)
class Answered:
    """An answer of the origin."""

    head: Head
    body: bytes
    length: int | None
    abandoned: bool = field(default=False, init=False)

    async def collect(self, limit: int) -> bytes:
        return self.body[:limit]

    def abandon(self) -> None:
        self.abandoned = True


def answer(
    status: int, body: bytes = b"", length: int | None = None, **fields: str
) -> Callable[[Sequence[tuple[bytes, bytes]]], Answered]:
    headers = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())
    return lambda _: Answered(Head(status, b"", headers), body, len(body) if length is None else length)


@define(eq=False)
class Client:
    """Answers requests by their target."""

    answers: dict[bytes, Callable[[Sequence[tuple[bytes, bytes]]], Answered]]
    origin: OriginURL = field(factory=lambda: OriginURL("http", "glance", 9292))
    asked: list[tuple[bytes, list[tuple[bytes, bytes]]]] = field(factory=list, init=False)
    given: list[Answered] = field(factory=list, init=False)

    async def request(self, method: bytes, target: bytes, headers: Any) -> Answered:
        assert method == b"GET"
        self.asked.append((target, list(headers)))
        self.given.append(self.answers[target](headers))
        return self.given[-1]


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


def versions(*names: str) -> Callable[[Any], Answered]:
    return answer(200, json.dumps({"versions": [{"id": name} for name in names]}).encode())


NEW = versions("v2.9", "v2.13", "v2.15")
OLD = versions("v2.9", "v2.12")


def authorize(client: Client, size: int | None = 1000) -> Verdict:
    verdict: Verdict = now(Glance(client, Clock()).authorize(TARGET, HEADERS, size))  # type: ignore[arg-type]
    return verdict


def test_416_to_a_range_at_the_end_is_permission() -> None:
    """The client's own fields are sent, without its conditions, and a range that moves no byte."""
    client = Client({b"/versions": NEW, TARGET: answer(416, x_openstack_request_id="req-1")})
    assert authorize(client) == Allowed(0, b"req-1")
    _, headers = client.asked[-1]
    assert first(headers, b"range") == b"bytes=1000-"
    assert first(headers, b"x-auth-token") == b"t"
    assert first(headers, b"if-match") is None
    assert sum(name.lower() == b"range" for name, _ in headers) == 1


def test_any_size_is_asked_for_beyond_all_bodies() -> None:
    """Nothing has to be known of an image to ask whether it may be had; and any body is one."""
    client = Client({b"/versions": NEW, TARGET: answer(416)})
    assert isinstance(authorize(client, None), Allowed)
    assert first(client.asked[-1][1], b"range") == b"bytes=%d-" % (2**63 - 1)
    assert isinstance(authorize(Client({b"/versions": NEW, TARGET: answer(404)}), None), Denied)
    for document, status in ((NEW, 200), (NEW, 204), (OLD, 200), (OLD, 206)):
        client = Client({b"/versions": document, TARGET: answer(status, b"x")})
        assert isinstance(authorize(client, None), Allowed)
        assert client.given[-1].abandoned


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500, 503, 300])
def test_any_other_answer_is_the_clients(status: int) -> None:
    """Whatever else the origin says is what the client is to be told, body and all."""
    verdict = authorize(Client({b"/versions": NEW, TARGET: answer(status, b"why not")}))
    assert isinstance(verdict, Denied)
    assert (verdict.answer.head.status, verdict.answer.body) == (status, b"why not")


@pytest.mark.parametrize("status", [200, 204, 206])
def test_data_where_none_should_be_means_that_the_image_changed(status: int) -> None:
    """A body behind the expected end is not read, and its connection given up."""
    client = Client({b"/versions": NEW, TARGET: answer(status, b"x")})
    assert authorize(client) == Changed()
    assert client.given[-1].abandoned


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(206, b"x", content_range="bytes 0-0/1000"), Allowed),
        (answer(206, b"x", content_range="bytes 0-0/999"), Changed),
        (answer(206, b"x"), Changed),
        (answer(200, length=1000), Allowed),
        (answer(200, length=7), Changed),
        (answer(400, b"another reason"), Denied),
        (answer(416), Changed),
        (answer(403), Denied),
    ],
)
def test_before_release_23_the_first_byte_is_asked_for(given: Any, expected: type) -> None:
    """There a 416 says nothing about the policy, and what comes after the policy does."""
    client = Client({b"/versions": OLD, TARGET: given})
    assert isinstance(authorize(client), expected)
    assert first(client.asked[-1][1], b"range") == b"bytes=0-0"


_NOT_RANDOMLY = b"Getting images randomly from this store is not supported"


@pytest.mark.parametrize(
    ("body", "beyond", "expected"),
    [(_NOT_RANDOMLY, 416, Allowed), (_NOT_RANDOMLY, 400, Denied), (b"Bad header: randomly", 416, Denied)],
)
def test_a_400_is_glances_word_about_the_range_or_nothing(body: bytes, beyond: int, expected: type) -> None:
    """A server that puts the client's own words into its complaint about them does not let it in."""

    def ask(headers: Sequence[tuple[bytes, bytes]]) -> Answered:
        begins_at_the_beginning = first(headers, b"range") == b"bytes=0-0"
        return (answer(400, body) if begins_at_the_beginning else answer(beyond, body))(headers)

    assert isinstance(authorize(Client({b"/versions": OLD, TARGET: ask})), expected)


def test_documents_without_a_bottom() -> None:
    """What is nested too deeply to be read is no description and no version."""
    deep = b"[" * 200_000
    with pytest.raises(OriginProtocolError):
        describe(deep)
    client = Client({b"/versions": answer(200, deep), TARGET: answer(403)})
    assert isinstance(authorize(client), Denied)


@pytest.mark.parametrize(
    "document", [b"", b"[]", b'{"versions": [{"id": 3}]}', b'{"versions": [{"id": "x"}]}']
)
def test_without_a_version_the_careful_question_is_asked(document: bytes) -> None:
    """An origin that does not say what it is is taken for an old one."""
    client = Client({b"/versions": answer(300, document), TARGET: answer(403)})
    authorize(client)
    assert first(client.asked[-1][1], b"range") == b"bytes=0-0"


def test_versions_are_asked_for_now_and_then() -> None:
    """Once for many questions, and again later: an origin may be upgraded or downgraded."""
    clock = Clock()
    client = Client({b"/versions": NEW, TARGET: answer(416)})
    glance = Glance(client, clock)  # type: ignore[arg-type]
    for _ in range(3):
        now(glance.authorize(TARGET, HEADERS, 5))
    assert [target for target, _ in client.asked].count(b"/versions") == 1
    clock.advance(301)
    client.answers[b"/versions"] = OLD
    client.answers[TARGET] = answer(403)
    now(glance.authorize(TARGET, HEADERS, 5))
    assert first(client.asked[-1][1], b"range") == b"bytes=0-0"
    assert not any(
        name == b"X-Auth-Token" for target, sent in client.asked if target == b"/versions" for name, _ in sent
    )


@pytest.mark.parametrize("status", [500, 503])
def test_an_error_is_no_version(status: int) -> None:
    """While the origin cannot say what it is, it is taken for an old one, and no longer."""
    client = Client({b"/versions": answer(status, b"oops"), TARGET: answer(403)})
    glance = Glance(client, Clock())  # type: ignore[arg-type]
    now(glance.authorize(TARGET, HEADERS, 5))
    assert first(client.asked[-1][1], b"range") == b"bytes=0-0"
    client.answers[b"/versions"] = NEW
    now(glance.authorize(TARGET, HEADERS, 5))
    assert first(client.asked[-1][1], b"range") == b"bytes=5-"


SHA = "ab" * 64
MD5 = "cd" * 16


def document(**changes: object) -> bytes:
    values = {
        "id": "1",
        "status": "active",
        "size": 1000,
        "checksum": MD5,
        "os_hash_algo": "sha512",
        "os_hash_value": SHA,
    }
    return json.dumps({**values, **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Image("1", 1000, "sha512", SHA, MD5)),
        ({"os_hash_value": SHA.upper()}, Image("1", 1000, "sha512", SHA, MD5)),
        ({"os_hash_algo": "sha3_256"}, Image("1", 1000, "sha3_256", SHA, MD5)),
        ({"checksum": None}, Image("1", 1000, "sha512", SHA, None)),
        ({"os_hash_value": None, "os_hash_algo": None}, Image("1", 1000, "md5", MD5, MD5)),
        ({"os_hash_algo": "whirlpool9"}, Image("1", 1000, "md5", MD5, MD5)),
        ({"os_hash_algo": "shake_128"}, Image("1", 1000, "md5", MD5, MD5)),
        ({"os_hash_value": None, "checksum": None}, Uncacheable.NO_DIGEST),
        ({"os_hash_value": 'x"\r\n', "checksum": "zz"}, Uncacheable.NO_DIGEST),
        ({"status": "queued"}, Uncacheable.NOT_ACTIVE),
        ({"status": "deactivated"}, Uncacheable.NOT_ACTIVE),
        ({"size": None}, Uncacheable.NO_SIZE),
        ({"size": 0}, Uncacheable.NO_SIZE),
        ({"size": "7"}, Uncacheable.NO_SIZE),
    ],
)
def test_a_description_says_whether_and_how_an_image_is_cached(
    changes: dict[str, object], expected: object
) -> None:
    """Only active images of known size, by the digest or else by the checksum."""
    assert describe(document(**changes)) == expected


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{}", b'{"id": "1"}', b"\xff"])
def test_a_description_that_is_none_is_the_origins_fault(text: bytes) -> None:
    """It raises an error that becomes a 502."""
    with pytest.raises(OriginProtocolError):
        describe(text)


def fetch(given: Any, start: int = 10, stop: int = 20) -> Client:
    client = Client({TARGET: given})
    now(ImageSource(client, TARGET, HEADERS).fetch(start, stop, 1000))  # type: ignore[arg-type]
    return client


def test_a_whole_body_is_asked_for_without_a_range() -> None:
    """So that it works with stores that have none; a length that is not known is fine."""
    for given in (answer(200, length=1000), lambda _: Answered(Head(200, b"", ()), b"", None)):
        client = fetch(given, 0, 1000)
        assert first(client.asked[0][1], b"range") is None
        assert not client.given[0].abandoned


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7), ("0", 0), ("-1", None), ("soon", None), ("Sun, 22 Nov 2026 19:00:00 GMT", None), (None, None)],
)
def test_an_origin_may_say_when_to_ask_again(said: str | None, seconds: float | None) -> None:
    """In seconds; anything else is as if it had said nothing."""
    for status in (429, 503):
        with pytest.raises(OriginOverloaded) as found:
            fetch(answer(status, **({"retry_after": said} if said else {})))
        assert found.value.retry_after == seconds


@pytest.mark.parametrize("start", [0, 10])
def test_a_body_in_a_coding_is_not_the_images(start: int) -> None:
    """Even of the right length, and although none was asked for."""
    status, stop = (206, 20) if start else (200, 1000)
    fields = {"content_range": "bytes 10-19/1000", "content_encoding": "gzip"}
    with pytest.raises(FillFailed, match="gzip"):
        fetch(answer(status, length=stop - start, **fields), start, stop)
    fetch(answer(status, length=stop - start, **{**fields, "content_encoding": "identity"}), start, stop)


def test_a_part_is_asked_for_with_its_range() -> None:
    """A 206 for just that range, of just that length, is taken."""
    client = fetch(answer(206, length=10, content_range="bytes 10-19/1000"))
    assert first(client.asked[0][1], b"range") == b"bytes=10-19"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (answer(206, length=10, content_range="bytes 11-20/1000"), RangesUnsupported),
        (answer(206, length=1000, content_range="bytes 10-19/1000"), RangesUnsupported),
        (answer(206, length=10), RangesUnsupported),
        (answer(206, length=10, content_range="bytes 10-19/1001"), ImageChanged),
        (answer(204), ImageChanged),
        (answer(200, length=1000), RangesUnsupported),
        (answer(400), RangesUnsupported),
        (answer(416), ImageChanged),
        (answer(401), SourceRefused),
        (answer(403), SourceRefused),
        (answer(404), SourceRefused),
        (answer(500), OriginError),
        (answer(503), OriginError),
        (answer(429), OriginError),
    ],
)
def test_any_other_answer_to_a_part_is_not_its_bytes(given: Any, error: type[Exception]) -> None:
    """Each kind of refusal has its own meaning, and no connection is left over."""
    client = Client({TARGET: given})
    with pytest.raises(error):
        now(ImageSource(client, TARGET, HEADERS).fetch(10, 20, 1000))  # type: ignore[arg-type]
    assert client.given[0].abandoned


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (answer(200, length=999), ImageChanged),
        (answer(204), ImageChanged),
        (answer(404), SourceRefused),
        (answer(502), OriginError),
    ],
)
def test_any_other_answer_to_the_whole_is_not_its_bytes(given: Any, error: type[Exception]) -> None:
    """A body of another length is another body."""
    with pytest.raises(error):
        fetch(given, 0, 1000)


def test_a_source_does_not_show_its_token() -> None:
    """What ends up in a log by accident has no credentials in it."""
    client = Client({})
    assert "X-Auth-Token" not in repr(ImageSource(client, TARGET, HEADERS))  # type: ignore[arg-type]
