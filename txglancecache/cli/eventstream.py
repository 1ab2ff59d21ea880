"""Server-Sent Events, as a client reads them (HTML Living Standard, section 9.2). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen


@frozen
class Message:
    """One event."""

    data: str
    id: str = ""
    kind: str = "message"


def messages(lines: Iterable[str]) -> Iterator[Message]:
    """The events in these lines. Comments are heartbeats, and an event that is cut short is none."""
    data: list[str] = []
    last_id, kind = "", ""
    for raw in lines:
        line = raw.rstrip("\r\n")
        if not line:
            if data:
                yield Message("\n".join(data), last_id, kind or "message")
            data, kind = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                data.append(value)
            case "event":
                kind = value
            case "id" if "\0" not in value:
                last_id = value
