"""Which kind of answer a client would rather have."""

from __future__ import annotations

import pytest

from txglancecache.management.accept import preferred

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ((), "application/json"),
        (("*/*",), "application/json"),
        ((BROWSER,), "text/html"),
        (("application/json",), "application/json"),
        (("text/html, application/json",), "application/json"),
        (("application/json;q=0.5", "text/html"), "text/html"),
        (("text/*;q=0.5, application/*;q=0.4",), "text/html"),
        (("text/html;q=0, */*;q=0.1",), "application/json"),
        (("*/*, application/json;q=0",), "text/html"),
        (("application/json;q=0",), None),
        (("image/png",), None),
        (("TEXT/HTML",), "text/html"),
        (("application/json; version=2; q=0.2, text/html;q=0.3",), "text/html"),
        (("nonsense",), "application/json"),
        (("",), "application/json"),
        (("application/json;q=7",), "application/json"),
    ],
)
def test_preferred(accept: tuple[str, ...], chosen: str | None) -> None:
    """The best of what there is; the first of equals; anything goes where nothing is said."""
    assert preferred(accept, ("application/json", "text/html")) == chosen
