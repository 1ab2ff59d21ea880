"""The OpenAPI 3.1 document of the native API, made of the table of operations. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from txglancecache.management.answers import JSON
from txglancecache.management.native.operations import (
    JSON_TYPE,
    Body,
    Link,
    Operation,
    Parameter,
    PathParameter,
    Reply,
)
from txglancecache.management.native.schema import SCHEMAS, ref

_DESCRIPTION = """\
Manages the image cache of one node. It answers for this node alone: ask each node of a cluster for itself.

Times are seconds since the epoch, sizes are bytes. Ids of images are those that Glance gives them. Every
error is an object `{"error": {"code", "title", "message"}}`. A parameter or a member that is not described
here is refused, so that a misspelt one does not pass for a set one.

Lists come in pages: follow `next` until it is null.
"""
_TAGS = {
    "node": "This node as a whole.",
    "images": "What is in the cache.",
    "jobs": "Prefetches and verifications.",
    "upkeep": "Making room, and clearing away what is of no use.",
    "health": "For load balancers and monitoring.",
    "description": "This document.",
}
#: What any operation may answer.
_PROBLEMS: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "The request makes no sense; the message says what does not.",
    HTTPStatus.UNAUTHORIZED: "There is no token, or none that is valid.",
    HTTPStatus.FORBIDDEN: "The caller may not do this, or another site's page asked a browser to.",
    HTTPStatus.NOT_ACCEPTABLE: "There is no answer of a kind that `Accept` names.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is longer than 64 KiB.",
    HTTPStatus.MISDIRECTED_REQUEST: "The `Host` is none of this site's names.",
    HTTPStatus.TOO_MANY_REQUESTS: "There were too many requests with wrong credentials.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A bug. The node's log has the details.",
    HTTPStatus.SERVICE_UNAVAILABLE: "What it takes to answer is not to be had now.",
}
_SECURITY: Mapping[str, Mapping[str, JSON]] = {
    "keystone": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Auth-Token",
        "description": "A token of Keystone whose roles the node's policy accepts.",
    },
    "certificate": {
        "type": "mutualTLS",
        "description": "A client certificate of the authority that the node trusts.",
    },
}


def document(
    operations: Sequence[Operation], path_parameters: Mapping[str, PathParameter], *, version: str, auth: str
) -> dict[str, JSON]:
    """The document.

    :param auth: how the node knows its operators: the name of a security scheme, or ``none``.
    """
    paths: dict[str, dict[str, JSON]] = {}
    for operation in operations:
        item = paths.setdefault(operation.path, _item(operation.path, path_parameters))
        item[operation.method.lower()] = _operation(operation)
    components: dict[str, JSON] = {
        "schemas": SCHEMAS,
        "responses": {_component(status): _problem(status, text) for status, text in _PROBLEMS.items()},
        "securitySchemes": _SECURITY,
    }
    security: list[JSON] = [{auth: []}] if auth in _SECURITY else []
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "txglancecache management",
            "summary": "The cache of one txglancecache node",
            "description": _DESCRIPTION,
            "version": version,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The node that this document comes from."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": security,
        "paths": paths,
        "components": components,
    }


def _item(path: str, known: Mapping[str, PathParameter]) -> dict[str, JSON]:
    parameters: list[JSON] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": parameter.description,
            "schema": parameter.shape.schema,
            "example": parameter.example,
        }
        for name, parameter in known.items()
        if f"{{{name}}}" in path
    ]
    return {"parameters": parameters} if parameters else {}


def _operation(operation: Operation) -> dict[str, JSON]:
    responses: dict[str, JSON] = {str(reply.status.value): _reply(reply) for reply in operation.replies}
    for status in _PROBLEMS.keys() - operation.problems.keys():
        responses.setdefault(str(status.value), {"$ref": f"#/components/responses/{_component(status)}"})
    for status, text in operation.problems.items():
        responses[str(status.value)] = _problem(status, text)
    described: dict[str, JSON] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "responses": dict(sorted(responses.items())),
    }
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = _body(operation.body)
    return described


def _parameter(parameter: Parameter) -> dict[str, JSON]:
    schema = dict(parameter.shape.schema)
    if parameter.default is not None:
        schema["default"] = parameter.default
    described: dict[str, JSON] = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": schema,
    }
    if parameter.repeated:
        described |= {"style": "form", "explode": True}
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _body(body: Body) -> dict[str, JSON]:
    content: dict[str, JSON] = {JSON_TYPE: {"schema": body.shape.schema, "example": body.example}}
    return {"required": body.required, "content": content}


def _reply(reply: Reply) -> dict[str, JSON]:
    described: dict[str, JSON] = {"description": reply.description}
    if reply.content:
        described["content"] = {kind: {"schema": schema} for kind, schema in reply.content.items()}
    if reply.link is not None:
        described["links"] = _links(reply.link)
    return described


def _links(link: Link) -> dict[str, JSON]:
    parameters: dict[str, JSON] = {link.parameter: f"$response.body#{link.place}"}
    return {name: {"operationId": name, "parameters": parameters} for name in link.operations}


def _problem(status: HTTPStatus, text: str) -> dict[str, JSON]:
    example: dict[str, JSON] = {
        "error": {"code": status.value, "title": status.phrase, "message": text.partition(".")[0].lower()}
    }
    content: dict[str, JSON] = {JSON_TYPE: {"schema": ref("Error"), "example": example}}
    return {"description": text, "content": content}


def _component(status: HTTPStatus) -> str:
    return "".join(word.capitalize() for word in status.name.split("_"))
