"""Lists that a node tells of in pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from txglancecache.cli.client import NodeClient

_PAGE = 1000


def pages(node: NodeClient, what: str, **query: str | int | None) -> Iterator[dict[str, Any]]:
    """The images, or jobs, that the node tells of, page by page."""
    page = node.get(f"/cache/{what}", limit=_PAGE, **query)
    while True:
        yield from page[what]
        if not page.get("next"):
            return
        page = node.get(page["next"])
