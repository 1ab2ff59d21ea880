"""Server-Sent Events, as a client reads them (HTML Living Standard, section 9.2). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen


@frozen
class Message:
    """One event; ``data`` is None where it is none, and only tells the id from which to go on."""

    data: str | None
    id: str = ""
    kind: str = "message"


def messages(lines: Iterable[str]) -> Iterator[Message]:
    """The events in these lines, and where a new id comes without one, that. Comments are heartbeats, and an
    event that is cut short is none."""
    data: list[str] = []
    told = last_id = kind = ""
    for raw in lines:
        line = raw.rstrip("\r\n")
        if not line:
            if data or last_id != told:
                yield Message("\n".join(data) if data else None, last_id, kind or "message")
            data, kind, told = [], "", last_id
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
