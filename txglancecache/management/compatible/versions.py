"""The version document: what the origin serves, and what is served here besides; bytes in, bytes out."""

from __future__ import annotations

import json
import re
from typing import Any

#: The versions that came with what is served here: the cache's API, what 2.16 changed about it, its upkeep.
#: A Glance that has no cache of its own does not list them, and tools ask for them before they go on.
_SERVED = ("v2.14", "v2.16", "v2.18")
_VERSION = re.compile(r"v(\d{1,3})\.(\d{1,3})")


def with_cache_versions(document: bytes) -> bytes:
    """The document with the versions of the cache's API in it, the newest first.

    Each links to where the origin says that its own versions of the same API are. What is no version document
    of an image service comes back as it is.
    """
    try:
        root = json.loads(document)
        versions: list[dict[str, Any]] = root["versions"]
        known = {str(version["id"]): version for version in versions}
    except (ValueError, TypeError, KeyError, RecursionError):
        return document
    pattern = next((version for name, version in known.items() if _number(name)[0] == 2), None)
    if pattern is None:
        return document
    missing = [{**pattern, "id": name, "status": "SUPPORTED"} for name in _SERVED if name not in known]
    usable = [{**version, "status": _usable(version)} for version in versions]
    newest_first = sorted([*usable, *missing], key=lambda version: _number(version["id"]), reverse=True)
    return json.dumps({**root, "versions": newest_first}).encode("ascii")


def _usable(version: dict[str, Any]) -> Any:
    """Its status; ``SUPPORTED`` where it is served here whatever the origin says of it."""
    status = version.get("status")
    return "SUPPORTED" if version["id"] in _SERVED and status != "CURRENT" else status


def _number(name: object) -> tuple[int, int]:
    match = _VERSION.fullmatch(str(name))
    return (int(match[1]), int(match[2])) if match else (0, 0)
