"""Which of the kinds of answer that there are a client would rather have (RFC 9110, section 12.5.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PART = re.compile(r"\s*([\w!#$&^.+*-]+)/([\w!#$&^.+*-]+)\s*((?:;[^,]*)?)", re.ASCII)
_QUALITY = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?:;|$)", re.ASCII | re.IGNORECASE)


def preferred(accept: Sequence[str], offered: Sequence[str]) -> str | None:
    """The one of the ``offered`` media types that fits the ``Accept`` field best; None if none does.

    Among equals it is the first one offered. No field, or one that makes no sense, accepts everything.

    :param accept: the values of the field.
    """
    ranges = [parsed for part in ",".join(accept).split(",") if (parsed := _parse(part))]
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda kind: _quality(kind, ranges))
    return best if _quality(best, ranges) > 0 else None


def _parse(part: str) -> tuple[str, str, float] | None:
    match = _PART.fullmatch(part)
    if match is None:
        return None
    quality = _QUALITY.search(match[3])
    return match[1].lower(), match[2].lower(), float(quality[1]) if quality else 1.0


def _quality(kind: str, ranges: Sequence[tuple[str, str, float]]) -> float:
    """How welcome ``kind`` is: what the most specific range that matches it says."""
    main, _, sub = kind.partition("/")
    matching = [
        (wanted_main != "*", wanted_sub != "*", quality)
        for wanted_main, wanted_sub, quality in ranges
        if wanted_main in (main, "*") and wanted_sub in (sub, "*")
    ]
    return max(matching)[2] if matching else 0.0
