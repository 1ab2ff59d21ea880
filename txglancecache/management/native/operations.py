"""How an operation of the native API is described; the table of them is in `native`.

An operation says all that its callers and the router need to know: where it is, what may be said to it, how
it answers. The OpenAPI document is made of the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from attrs import field, frozen

from txglancecache.management.answers import JSON
from txglancecache.management.native.shapes import Object, Schema, Shape

JSON_TYPE = "application/json"


@frozen
class Parameter:
    """Something that the query of a request may say.

    :param repeated: it may be there several times; the handler gets a list.
    """

    name: str
    shape: Shape
    description: str
    default: JSON = None
    repeated: bool = False
    example: JSON = None


@frozen
class PathParameter:
    """A part of a path that names something."""

    shape: Shape
    description: str
    example: str


@frozen
class Body:
    """The JSON that a request may carry. If it is not ``required``, no body is as good as an empty object."""

    shape: Object
    example: JSON
    required: bool = False


@frozen
class Link:
    """Operations that may follow, about what the answer names at ``place``, a JSON pointer into its body."""

    parameter: str
    place: str
    operations: Sequence[str]


@frozen
class Reply:
    """One way to answer. ``content`` has the schema of each kind of body, by media type."""

    status: HTTPStatus
    description: str
    content: Mapping[str, Schema] = field(factory=dict)
    link: Link | None = None


@frozen
class Operation:
    """One method of one path.

    :param name: what the document calls it, and the name of the method that carries it out.
    :param path: with the names of its variable parts in braces.
    :param problems: the errors that it may answer with, beside those that every one may.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str
    replies: Sequence[Reply]
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    problems: Mapping[HTTPStatus, str] = field(factory=dict)

    @property
    def route(self) -> str:
        """The path as Klein writes it."""
        return self.path.replace("{", "<").replace("}", ">")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The media types of its successful answers."""
        return tuple(dict.fromkeys(kind for reply in self.replies for kind in reply.content))


def json_reply(status: HTTPStatus, description: str, schema: Schema, link: Link | None = None) -> Reply:
    return Reply(status, description, {JSON_TYPE: schema}, link)
