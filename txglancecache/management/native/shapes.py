"""What may be said to the native API.

A shape reads a value that came from outside, and describes itself as a JSON schema: what is checked and what
is documented are the same. Knows JSON, nothing of HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import field, frozen

from txglancecache.management.answers import JSON
from txglancecache.sizes import parse_size

Schema = dict[str, JSON]

_LARGEST = 2**63 - 1
#: As `parse_size` reads it, within what a size can be.
_SIZE_PATTERN = r"^([0-9]{1,6}(\.[0-9]{1,3})? ?([KkMmGgTt][Ii]?)?[Bb]|[0-9]{1,18})$"


class Wrong(ValueError):
    """A value of another shape; ``str()`` is what its sender needs to know."""


class Shape(Protocol):
    """A kind of value."""

    @property
    def schema(self) -> Schema:
        """The JSON schema of such values."""

    def read(self, value: object) -> Any:
        """The value; :raises Wrong: if it is none of these."""

    def parse(self, text: str) -> Any:
        """The value that a query parameter spells; :raises Wrong: if it spells none."""


@frozen
class Text:
    """A string that matches ``pattern`` from its beginning to its end, or is one of ``choices``."""

    pattern: str | None = None
    choices: tuple[str, ...] = ()
    most: int = 255
    what: str = "a string"

    @property
    def schema(self) -> Schema:
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        limits: Schema = {"type": "string", "maxLength": self.most}
        return limits | ({"pattern": f"^{self.pattern}$"} if self.pattern else {})

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(f"should be {self.what}")
        if self.choices and value not in self.choices:
            raise Wrong(f"should be one of {', '.join(self.choices)}")
        if len(value) > self.most:
            raise Wrong(f"should have at most {self.most} characters")
        if self.pattern and not re.fullmatch(self.pattern, value, re.ASCII):
            raise Wrong(f"should be {self.what}")
        return value

    def parse(self, text: str) -> str:
        return self.read(text)


@frozen
class Integer:
    """A whole number within limits."""

    least: int
    most: int

    @property
    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def read(self, value: object) -> int:
        # JSON Schema counts 1.0 among the integers, and true among the booleans only.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise Wrong(f"should be a whole number from {self.least} to {self.most}")
        return value

    def parse(self, text: str) -> int:
        return self.read(int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else None)


@frozen
class Flag:
    """True or false."""

    @property
    def schema(self) -> Schema:
        return {"type": "boolean"}

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise Wrong("should be true or false")
        return value

    def parse(self, text: str) -> bool:
        return self.read({"true": True, "false": False}.get(text))


@frozen
class Size:
    """A number of bytes, or how people write one."""

    @property
    def schema(self) -> Schema:
        return {
            "oneOf": [
                {"type": "integer", "minimum": 0, "maximum": _LARGEST},
                {"type": "string", "pattern": _SIZE_PATTERN},
            ]
        }

    def read(self, value: object) -> int:
        if isinstance(value, str):
            try:
                size = parse_size(value)
            except ValueError as error:
                raise Wrong(str(error)) from None
            if not re.fullmatch(_SIZE_PATTERN, value):
                raise Wrong("should be a size such as 512MiB or 10GB")
            return size
        return Integer(0, _LARGEST).read(value)

    def parse(self, text: str) -> int:
        return self.read(text)


@frozen
class ListOf:
    """Several of a kind, no two alike."""

    item: Shape
    most: int

    @property
    def schema(self) -> Schema:
        return {
            "type": "array",
            "items": self.item.schema,
            "minItems": 1,
            "maxItems": self.most,
            "uniqueItems": True,
        }

    def read(self, value: object) -> list[Any]:
        if not isinstance(value, list):
            raise Wrong("should be a list")
        if not 1 <= len(value) <= self.most:
            raise Wrong(f"should have 1 to {self.most} members")
        members = [_within(f"member {number}", self.item.read, one) for number, one in enumerate(value)]
        if len(set(members)) < len(members):
            raise Wrong("should not name anything twice")
        return members

    def parse(self, text: str) -> list[Any]:
        raise Wrong("cannot be spelled in one parameter")


@frozen
class Member:
    """A member of an object."""

    shape: Shape
    description: str
    required: bool = False
    default: JSON = None


@frozen
class Object:
    """An object with these members and no others."""

    members: Mapping[str, Member] = field(factory=dict)

    @property
    def schema(self) -> Schema:
        properties: Schema = {}
        for name, member in self.members.items():
            described: Schema = {"description": member.description}
            if member.default is not None:
                described["default"] = member.default
            properties[name] = member.shape.schema | described
        required = [name for name, member in self.members.items() if member.required]
        schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        return schema | ({"required": required} if required else {})

    def read(self, value: object) -> dict[str, Any]:
        """The members by name, with the defaults of those that are absent."""
        if not isinstance(value, dict):
            raise Wrong("should be an object")
        refuse_unknown(value, self.members)
        for name, member in self.members.items():
            if member.required and name not in value:
                raise Wrong(f"{name!r} is missing")
        return {
            name: _within(repr(name), member.shape.read, value[name]) if name in value else member.default
            for name, member in self.members.items()
        }

    def parse(self, text: str) -> dict[str, Any]:
        raise Wrong("cannot be spelled in one parameter")


def refuse_unknown(given: Mapping[str, object], known: Mapping[str, object]) -> None:
    """:raises Wrong: for a name that is not among the known ones."""
    for name in given:
        if name not in known:
            there = ", ".join(known) if known else "none"
            raise Wrong(f"{shown(name)} is unknown; there is: {there}")


def shown(text: str) -> str:
    """Some of ``text``, in quotes, fit to be repeated to whom it came from."""
    return ascii(text if len(text) <= 40 else text[:40] + "…")


def _within(where: str, read: Callable[[object], Any], value: object) -> Any:
    try:
        return read(value)
    except Wrong as error:
        raise Wrong(f"{where}: {error}") from None
