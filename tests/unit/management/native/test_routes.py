"""The table of operations, the application that is made of it, and the document that is made of it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from tests.unit.management.native.world import DAMAGED, PARTIAL, WHOLE, Site, job_of
from txglancecache.cache.status import Freed, JobKind
from txglancecache.management.access.permissions import UNLISTED, access
from txglancecache.management.native.api import NativeAPI
from txglancecache.management.native.openapi import document
from txglancecache.management.native.operations import Operation
from txglancecache.management.native.routes import OPERATIONS, PATH_PARAMETERS
from txglancecache.management.native.schema import (
    SCHEMAS,
    freed_json,
    image_detail_json,
    image_json,
    job_json,
    quarantine_json,
)

NAMES = [operation.name for operation in OPERATIONS]


def described(auth: str = "none") -> Any:
    return document(OPERATIONS, PATH_PARAMETERS, version="1.2", auth=auth)


def test_document_and_application() -> None:
    """Every route of the application is in the document, and everything in the document is a route."""
    routes = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in Site().native.app().url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }
    documented = {
        (method.upper(), path)
        for path, item in described()["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert routes == documented


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_operation(operation: Operation) -> None:
    """Each operation has a method that carries it out, a name of its own, a path whose parts are known, and a
    place in the policy."""
    assert callable(getattr(NativeAPI, operation.name))
    assert NAMES.count(operation.name) == 1
    assert operation.summary
    assert operation.description.endswith(".")
    parts = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    assert all(part in PATH_PARAMETERS for part in parts)
    segments = [segment.encode() for segment in operation.path.removeprefix("/").split("/")]
    assert access(operation.method.encode(), segments) != UNLISTED


def test_served() -> None:
    """The document is served as it is."""
    assert Site().got("/cache/openapi.json") == json.loads(json.dumps(described()))


def test_references() -> None:
    """Whatever the document refers to is in it, and nothing is in it in vain."""
    whole = described()
    text = json.dumps(whole)
    for kind in ("schemas", "responses"):
        for name in whole["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text
    for reference in set(text.split('"$ref": "')[1:]):
        at: Any = whole
        for step in reference.partition('"')[0].removeprefix("#/").split("/"):
            at = at[step]
    tags = {tag["name"] for tag in whole["tags"]}
    assert {operation.tag for operation in OPERATIONS} == tags
    links = [
        link["operationId"]
        for item in whole["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
        for reply in operation["responses"].values()
        for link in reply.get("links", {}).values()
    ]
    assert links
    assert set(links) <= set(NAMES)


@pytest.mark.parametrize(
    ("auth", "security"),
    [("none", []), ("keystone", [{"keystone": []}]), ("certificate", [{"certificate": []}])],
)
def test_security(auth: str, security: Any) -> None:
    """The document says how this node knows its operators."""
    assert described(auth)["security"] == security


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Image", image_json(PARTIAL)),
        ("ImageDetail", image_detail_json(WHOLE)),
        ("Job", job_json(job_of(1, JobKind.VERIFY, "a"))),
        ("QuarantineFile", quarantine_json(DAMAGED)),
        ("Freed", freed_json(Freed(1, 2))),
    ],
)
def test_values(name: str, value: Any) -> None:
    """A value has just the members that its schema has."""
    assert set(value) == set(SCHEMAS[name]["properties"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/cache", "Node"),
        ("/cache/images", "Images"),
        ("/cache/images/6f1c", "ImageDetail"),
        ("/cache/jobs", "Jobs"),
        ("/cache/events", "Events"),
        ("/cache/quarantine", "Quarantine"),
        ("/cache/counters", "Counters"),
        ("/cache/health", "Health"),
        ("/cache/ready", "Readiness"),
    ],
)
def test_answers(path: str, name: str) -> None:
    """An answer is what its schema says."""
    site = Site()
    site.cache.events.note("pinned", "6f1c")
    site.jobs.submit(JobKind.PREFETCH, ["a"])
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}
    jsonschema_rs.validator_for(json.loads(json.dumps(schema))).validate(site.got(path))


def test_examples() -> None:
    """What the document gives as an example is allowed by it."""
    for operation in OPERATIONS:
        for parameter in operation.parameters:
            if parameter.example is not None:
                parameter.shape.parse(str(parameter.example))
            if parameter.default is not None:
                parameter.shape.parse(str(parameter.default))
        if operation.body is not None:
            operation.body.shape.read(operation.body.example)
    for path_parameter in PATH_PARAMETERS.values():
        path_parameter.shape.parse(path_parameter.example)
