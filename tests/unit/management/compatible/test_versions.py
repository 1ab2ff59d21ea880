"""The version document of a site that serves the cache's API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from txglancecache.management.compatible.versions import with_cache_versions

LINKS = [{"rel": "self", "href": "http://cache:9394/v2/"}]


def document(*versions: tuple[str, str]) -> bytes:
    return json.dumps({"versions": [{"id": i, "status": s, "links": LINKS} for i, s in versions]}).encode()


def listed(text: bytes) -> list[tuple[str, str]]:
    versions: list[dict[str, Any]] = json.loads(text)["versions"]
    assert all(version["links"] == LINKS for version in versions)
    return [(version["id"], version["status"]) for version in versions]


def test_without_cache() -> None:
    """What a Glance without a cache of its own leaves out is put in, newest first, with the same links."""
    given = document(
        ("v2.15", "SUPPORTED"), ("v2.9", "SUPPORTED"), ("v2.17", "CURRENT"), ("v2.7", "SUPPORTED")
    )
    assert listed(with_cache_versions(given)) == [
        ("v2.18", "SUPPORTED"),
        ("v2.17", "CURRENT"),
        ("v2.16", "SUPPORTED"),
        ("v2.15", "SUPPORTED"),
        ("v2.14", "SUPPORTED"),
        ("v2.9", "SUPPORTED"),
        ("v2.7", "SUPPORTED"),
    ]


def test_with_cache() -> None:
    """What is there stays as it is."""
    given = document(("v2.18", "CURRENT"), ("v2.16", "SUPPORTED"), ("v2.14", "SUPPORTED"))
    assert with_cache_versions(given) == given


def test_status() -> None:
    """What is served here is supported, whatever the origin says of its own."""
    given = document(("v2.16", "DEPRECATED"), ("v2.14", "EXPERIMENTAL"), ("v2.3", "DEPRECATED"))
    assert listed(with_cache_versions(given)) == [
        ("v2.18", "SUPPORTED"),
        ("v2.16", "SUPPORTED"),
        ("v2.14", "SUPPORTED"),
        ("v2.3", "DEPRECATED"),
    ]


def test_older_api() -> None:
    """Links are those of the same major version."""
    given = json.loads(document(("v2.3", "CURRENT")))
    given["versions"].insert(0, {"id": "v1.1", "status": "DEPRECATED", "links": []})
    versions = json.loads(with_cache_versions(json.dumps(given).encode()))["versions"]
    assert [version["id"] for version in versions] == ["v2.18", "v2.16", "v2.14", "v2.3", "v1.1"]
    assert [version["links"] for version in versions] == [LINKS, LINKS, LINKS, LINKS, []]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"versions": null}',
        b'{"versions": [1]}',
        b'{"versions": [{}]}',
        b'{"versions": {"id": "v2.1"}}',
        b'{"versions": []}',
        b'{"versions": [{"id": "v3.14"}]}',
        b'{"error": {"code": 503}}',
    ],
)
def test_something_else(text: bytes) -> None:
    """What is no such document is left alone."""
    assert with_cache_versions(text) == text
