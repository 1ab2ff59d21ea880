"""Server-Sent Events, as they are read."""

from __future__ import annotations

import pytest

from txglancecache.cli.eventstream import Message, messages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: a\n\n", [Message("a")]),
        ("id: 7\nevent: evicted\ndata: a\ndata:b\n\n", [Message("a\nb", "7", "evicted")]),
        (": heartbeat\n\n\n", []),
        ("id: 7\ndata: a\n\ndata: b\n\n", [Message("a", "7"), Message("b", "7")]),
        ("event: x\n\ndata: a\n\n", [Message("a")]),
        ("id: 1\0\ndata: a\n\n", [Message("a")]),
        ("id: 7\n\ndata: a\n\n", [Message(None, "7"), Message("a", "7")]),
        ("data: a\nid: 7\n\nid: 7\n\n", [Message("a", "7")]),
        ("retry: 3000\nfoo: bar\ndata\n\n", [Message("")]),
        ("data: a\r\n\r\n", [Message("a")]),
        ("data: cut short\n", []),
    ],
)
def test_messages(text: str, expected: list[Message]) -> None:
    """Fields, comments, ids that go on, ends of lines, and an event that is cut short."""
    assert list(messages(text.splitlines(keepends=True))) == expected
