"""Images by the beginning of their ids, as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from txglancecache.cli.client import NodeClient
from txglancecache.cli.command import Context, Tally
from txglancecache.cli.listing import pages
from txglancecache.cli.outcome import NotFound, UsageError

_WHOLE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN = 3
STDIN = "-"


def begins(text: str, ids: Iterable[str]) -> str | None:
    """The one id that begins with this, or is it; None if there is none.

    :raises UsageError: if there are several.
    """
    found = sorted({name for name in ids if name.lower().startswith(text.lower())})
    if text in found:
        return text
    if len(found) > 1:
        some = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise UsageError(f"{text} begins {len(found)} ids: {some}")
    return found[0] if found else None


def cached(node: NodeClient, text: str) -> str:
    """The id of the cached image that is meant.

    :raises NotFound: if none is cached.
    """
    name = _cached(node, text)
    if name is None:
        raise NotFound("no such image in this cache")
    return name


def wanted(node: NodeClient, text: str) -> str:
    """The id of the image that is meant, which may well be one that is not cached.

    :raises NotFound: if it is the beginning of an id, and of none that is cached.
    """
    name = _cached(node, text)
    if name is None:
        raise NotFound("no image in this cache begins so; one that is not cached needs its whole id")
    return name


def _cached(node: NodeClient, text: str) -> str | None:
    if _WHOLE.fullmatch(text):
        return text
    return begins(text, (image["id"] for image in pages(node, "images", q=text)))


def named(
    context: Context, tally: Tally, find: Callable[[NodeClient, str], str], words: Sequence[str]
) -> list[str]:
    """The ids that are meant, each once; ``-`` is whatever stdin lists. What cannot be told is tallied."""
    names: dict[str, None] = {}
    for word in words:
        for text in context.screen.words() if word == STDIN else [word]:
            try:
                names[find(context.node, text)] = None
            except (NotFound, UsageError) as error:
                tally.went_wrong(text, error)
    return list(names)


def one(context: Context, text: str) -> str:
    """The id of the one cached image that is meant.

    :raises NotFound: if there is none; and `UsageError` if it is not one.
    """
    try:
        return cached(context.node, text)
    except NotFound as error:
        raise NotFound(f"{text}: {error}") from None
