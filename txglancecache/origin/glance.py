"""Glance's rules about image data: who may have it, what it is, and how to get a part of it.

It knows Glance's answers and what they mean. It keeps nothing but what `/versions` said; which answer may
be used again is decided by the caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from txglancecache.errors import (
    FillFailed,
    ImageChanged,
    OriginError,
    OriginOverloaded,
    OriginProtocolError,
    RangesUnsupported,
    SourceRefused,
)
from txglancecache.headers import RawHeaders, first, without
from txglancecache.image import Image, usable_algorithm
from txglancecache.origin.client import Head, OriginClient, Response
from txglancecache.waiting import Outcome

#: Request header fields that would make Glance answer something else than what is asked for here.
_CONDITIONS = (
    b"range",
    b"if-range",
    b"if-match",
    b"if-none-match",
    b"if-modified-since",
    b"if-unmodified-since",
    b"content-range",
    b"expect",
    b"content-length",
    b"content-type",
    b"accept-encoding",
)
#: Where no body begins: the largest offset that servers in between can be expected to count to.
_BEYOND = 2**63 - 1
_SMALL_ANSWER = 64 << 10
_LARGE_DOCUMENT = 4 << 20
_VERSIONS_KEPT = 300.0
#: The first API version whose `download_image` policy is enforced before the range is looked at.
_CHECKED_BEFORE_RANGE = (2, 13)


@frozen
class Answer:
    """A whole small answer of the origin, to be passed on as it is."""

    head: Head
    body: bytes


@frozen
class Allowed:
    """The client may download the image, and its size is the expected one.

    ``since`` is when it was asked, in the clock's seconds; ``request_id`` is the origin's
    ``x-openstack-request-id``, if it gave one.
    """

    since: float
    request_id: bytes | None


@frozen
class Denied:
    """The origin's answer to a client that does not get the image."""

    answer: Answer


@frozen
class Changed:
    """The image's data is not what it was: another size, or gone."""


Verdict = Allowed | Denied | Changed


class Uncacheable(Enum):
    """Why an image that the client may see is not cached."""

    NOT_ACTIVE = "not active"
    NO_SIZE = "size unknown"
    NO_DIGEST = "no digest"


@define(eq=False)
class Glance:
    """Asks Glance on behalf of a client, with that client's own header fields."""

    _client: OriginClient
    _clock: IReactorTime
    _versions: Outcome[list[tuple[int, int]]] | None = field(default=None, init=False)
    _versions_known_until: float = field(default=0.0, init=False)

    async def authorize(self, target: bytes, headers: RawHeaders, size: int | None) -> Verdict:
        """Ask whether a client may download a body of ``size`` bytes, without moving any of it.

        ``None`` is any size: what is asked for then begins where no body does.

        Glance looks at a range only after its visibility, status and ``download_image`` checks, and
        answers 416 to one that begins at the end without opening the store. Before release 23 the policy
        was checked when the data was opened: there the first byte is asked for.

        :param target: the request target of the download, with its query.
        :param headers: the client's end-to-end fields.
        :raises OriginError: Glance could not be asked.
        """
        strict = await self._checks_before_range()
        since = self._clock.seconds()
        wanted = b"bytes=%d-" % (_BEYOND if size is None else size) if strict else b"bytes=0-0"
        response = await self._client.request(b"GET", target, [*_plain(headers), (b"Range", wanted)])
        head = response.head
        allowed = Allowed(since, first(head.headers, b"x-openstack-request-id"))
        if head.status in (200, 204, 206):
            response.abandon()
            same = size is None or (not strict and _total(response) == size)
            return allowed if same else Changed()
        answer = Answer(head, await response.collect(_SMALL_ANSWER))
        if head.status == 416:
            return allowed if strict else Changed()
        if head.status == 400 and not strict and _cannot_range(answer):
            return allowed if await self._is_about_the_range(target, headers) else Denied(answer)
        return Denied(answer)

    async def identify(self, target: bytes, headers: RawHeaders) -> Image | Uncacheable | Denied:
        """Ask what an image is: its size and digest.

        :param target: the request target of the image's metadata.
        :raises OriginError: Glance could not be asked, or its answer makes no sense.
        """
        response = await self._client.request(b"GET", target, _plain(headers))
        if response.head.status != 200:
            return Denied(Answer(response.head, await response.collect(_SMALL_ANSWER)))
        return describe(await response.collect(_LARGE_DOCUMENT))

    async def _is_about_the_range(self, target: bytes, headers: RawHeaders) -> bool:
        """Whether it was the range of a download that Glance has refused, and nothing before it.

        Servers say 400 of fields that they do not like, and some repeat these in their answer. So what looks
        like Glance's word may be the client's own: then the same is said of any range.
        """
        beyond = (b"Range", b"bytes=%d-" % _BEYOND)
        response = await self._client.request(b"GET", target, [*_plain(headers), beyond])
        status = response.head.status
        response.abandon()
        return status == 416

    async def _checks_before_range(self) -> bool:
        """Whether this Glance settles who may download before it looks at the range."""
        now = self._clock.seconds()
        if self._versions is None or now >= self._versions_known_until:
            self._versions_known_until = now + _VERSIONS_KEPT
            self._versions = Outcome.of(Deferred.fromCoroutine(self._ask_versions()))
        try:
            return max(await self._versions.wait(), default=(0, 0)) >= _CHECKED_BEFORE_RANGE
        except OriginError:
            self._versions = None
            raise

    async def _ask_versions(self) -> list[tuple[int, int]]:
        headers = [(b"Host", self._client.origin.netloc), (b"Accept", b"application/json")]
        response = await self._client.request(b"GET", b"/versions", headers)
        if response.head.status >= 500:
            # It cannot say now: who asks next asks again.
            self._versions_known_until = self._clock.seconds()
        return _versions(await response.collect(_LARGE_DOCUMENT))


@define(eq=False)
class ImageSource:
    """The bytes of one image, asked for with one client's header fields."""

    _client: OriginClient
    _target: bytes = field(repr=False)  # its query may hold secrets too
    _headers: Sequence[tuple[bytes, bytes]] = field(repr=False)

    async def fetch(self, start: int, stop: int, size: int) -> Response:
        """The response whose body is ``[start, stop)`` of the ``size`` bytes.

        :raises SourceRefused: the origin does not give them to this client.
        :raises RangesUnsupported: the image's store cannot send a part.
        :raises ImageChanged: the image has another size.
        :raises FillFailed: the origin sends something else than the image's bytes.
        :raises OriginError: the origin could not be asked, or broke the rules; trying again may help.
        """
        partial = (start, stop) != (0, size)
        headers = _plain(self._headers)
        if partial:
            headers.append((b"Range", b"bytes=%d-%d" % (start, stop - 1)))
        response = await self._client.request(b"GET", self._target, headers)
        try:
            _check_coding(response)
            _check_partial(response, start, stop, size) if partial else _check_whole(response, size)
        except BaseException:
            response.abandon()
            raise
        return response


def describe(document: bytes) -> Image | Uncacheable:
    """What Glance's description of an image means for the cache.

    :raises OriginProtocolError: it is not such a description.
    """
    try:
        values: dict[str, Any] = json.loads(document)
        image_id, status, size = values["id"], values["status"], values.get("size")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise OriginProtocolError("the origin's description of an image makes no sense") from error
    if status != "active":
        return Uncacheable.NOT_ACTIVE
    if not isinstance(size, int) or size <= 0:
        return Uncacheable.NO_SIZE
    checksum = _hex(values.get("checksum"))
    algorithm, digest = values.get("os_hash_algo"), _hex(values.get("os_hash_value"))
    if not (digest and isinstance(algorithm, str) and usable_algorithm(algorithm)):
        algorithm, digest = "md5", checksum
    if digest is None:
        return Uncacheable.NO_DIGEST
    return Image(image_id, size, algorithm, digest, checksum)


def _hex(text: object) -> str | None:
    """``text`` in lower case, if it is bytes in hex."""
    is_hex = isinstance(text, str) and re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text)
    return str(text).lower() if is_hex else None


def _plain(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The fields of a plain GET: without conditions, ranges, a body's fields, and content codings."""
    return [*without(headers, *_CONDITIONS), (b"Accept-Encoding", b"identity")]


def _versions(document: bytes) -> list[tuple[int, int]]:
    """The API versions that a version document lists."""
    try:
        listed = [str(version["id"]) for version in json.loads(document)["versions"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    found = [re.fullmatch(r"v(\d{1,3})\.(\d{1,3})", name) for name in listed]
    return [(int(match[1]), int(match[2])) for match in found if match]


def _total(response: Response) -> int | None:
    """The length of the whole body, as a 200 or 206 tells it."""
    if response.head.status == 200:
        return response.length
    match = _CONTENT_RANGE.fullmatch(first(response.head.headers, b"content-range") or b"")
    return int(match[3]) if match else None


def _cannot_range(answer: Answer) -> bool:
    """Whether this 400 is Glance's word that the image's store cannot read at an offset."""
    return b"Getting images randomly from this store is not supported" in answer.body


_CONTENT_RANGE = re.compile(rb"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")


def _check_whole(response: Response, size: int) -> None:
    status = response.head.status
    if status == 200 and response.length in (None, size):
        return
    if status in (200, 204):
        raise ImageChanged
    _raise_for(response.head)


def _check_partial(response: Response, start: int, stop: int, size: int) -> None:
    status = response.head.status
    if status == 206:
        match = _CONTENT_RANGE.fullmatch(first(response.head.headers, b"content-range") or b"")
        if match and int(match[3]) != size:
            raise ImageChanged
        # Some stores send the whole body behind a 206: without its length there is no telling.
        exact = match and (int(match[1]), int(match[2])) == (start, stop - 1)
        if not (exact and response.length == stop - start):
            raise RangesUnsupported
        return
    if status == 416:
        raise ImageChanged
    if status in (200, 400, 501):
        raise RangesUnsupported
    if status == 204:
        raise ImageChanged
    _raise_for(response.head)


def _check_coding(response: Response) -> None:
    """What is not the image's own bytes is for clients that can decode it."""
    coding = first(response.head.headers, b"content-encoding") or b"identity"
    if 200 <= response.head.status < 300 and coding.strip().lower() != b"identity":
        raise FillFailed(f"the origin sent a body in the coding {coding!r}")


def _raise_for(head: Head) -> None:
    if head.status >= 500 or head.status in (408, 429):
        raise OriginOverloaded(f"the origin answered {head.status}", _retry_after(head))
    raise SourceRefused(head.status)


def _retry_after(head: Head) -> float | None:
    """``Retry-After`` in seconds; not as a date, which is for those who share the origin's clock."""
    value = (first(head.headers, b"retry-after") or b"").strip()
    return float(value) if re.fullmatch(rb"\d{1,9}", value) else None
