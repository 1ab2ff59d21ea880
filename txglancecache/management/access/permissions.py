"""Which rule of the policy a request comes under: a table of methods and paths, and nothing else.

It reads a path exactly as Klein does, so that both mean the same resource by it. What is in no line of the
table needs ``manage_image_cache``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import evolve, frozen
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, RequestRedirect, Rule


@frozen
class Access:
    """What a request has to bring.

    :param known: whether its caller has to be known.
    :param rule: the rule of the policy that has to let this caller pass; None: whoever it is.
    :param page: a page of HTML may be had by anybody; there is nothing of this node in it.
    """

    known: bool = True
    rule: str | None = None
    page: bool = False


#: For everybody.
OPEN = Access(known=False)
#: For everybody whose name is known: the origin decides about the rest.
KNOWN = Access()
UNLISTED = Access(rule="manage_image_cache")

_TABLE: Sequence[tuple[Access, Sequence[str]]] = (
    (
        OPEN,
        (
            "GET /cache/health",
            # the page's files, the same for everybody
            "GET /cache/static/<path:rest>",
            # the version documents, which the origin shows to everybody
            "GET /",
            "GET /versions",
            "GET /v2",
            "GET /v2/",
        ),
    ),
    (
        KNOWN,
        (
            "GET /v2/images",
            "GET /v2/images/<path:rest>",
            "GET /v2/schemas/<path:rest>",
            "GET /v2/metadefs/<path:rest>",
        ),
    ),
    (Access(rule="cache_list", page=True), ("GET /cache/",)),
    (
        Access(rule="cache_list"),
        (
            "GET /cache",
            "GET /cache/openapi.json",
            "GET /cache/images",
            "GET /cache/images/<id>",
            "GET /cache/jobs",
            "GET /cache/jobs/<id>",
            "GET /cache/events",
            "GET /v2/cache",
        ),
    ),
    (Access(rule="cache_image"), ("POST /cache/prefetch", "PUT /v2/cache/<id>")),
    (
        Access(rule="cache_delete"),
        (
            "DELETE /cache/images",
            "DELETE /cache/images/<id>",
            "DELETE /cache/jobs",
            "DELETE /cache/jobs/<id>",
            "DELETE /v2/cache",
            "DELETE /v2/cache/<id>",
        ),
    ),
    (Access(rule="cache_clean"), ("POST /cache/clean", "POST /v2/cache/clean")),
    (Access(rule="cache_prune"), ("POST /cache/prune", "POST /v2/cache/prune")),
    (Access(rule="list_cached_nodes"), ("GET /v2/cache/nodes/<id>",)),
    (Access(rule="cache_pin"), ("PUT /cache/images/<id>/pin", "DELETE /cache/images/<id>/pin")),
    (Access(rule="cache_verify"), ("POST /cache/verify", "POST /cache/images/<id>/verify")),
    (Access(rule="cache_quarantine"), ("GET /cache/quarantine", "DELETE /cache/quarantine")),
    (Access(rule="cache_metrics"), ("GET /metrics", "GET /cache/counters", "GET /cache/ready")),
)


def _rules() -> Iterator[Rule]:
    for access, lines in _TABLE:
        for line in lines:
            method, _, path = line.partition(" ")
            yield Rule(path, methods=[method], endpoint=access)


_MAP = Map(list(_rules()), strict_slashes=True).bind("localhost")


def access(method: bytes, segments: Sequence[bytes]) -> Access:
    """What a request with this method and these decoded segments of its path has to bring."""
    # This is how Klein puts them together again.
    joined = b"/".join(segments)
    path = joined if joined.startswith(b"/") else b"/" + joined
    try:
        found = _MAP.match(path.decode("utf-8"), method.decode("ascii"))[0]
    except (HTTPException, RequestRedirect, UnicodeDecodeError):
        return UNLISTED
    if not isinstance(found, Access):
        return UNLISTED
    # Other spellings lead Klein to the same resource, but not to the page, which takes it by its word.
    is_the_page = method in (b"GET", b"HEAD") and list(segments) == [b"cache", b""]
    return found if is_the_page else evolve(found, page=False)
