"""What a request says, in its query and its body; checked before anybody acts on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from twisted.web.iweb import IRequest

from txglancecache.headers import texts
from txglancecache.management.native.operations import JSON_TYPE, Body, Parameter
from txglancecache.management.native.problems import BadRequest, TooLarge, UnsupportedMedia
from txglancecache.management.native.shapes import Wrong, refuse_unknown, shown

#: The most bytes of a body that are read.
MAX_BODY = 64 << 10
_MAX_DEPTH = 16
_MAX_PARAMETERS = 1000


def query(request: IRequest, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The values of all these parameters, by name, with the defaults of those that are absent.

    :raises BadRequest: it says something else, or something that makes no sense.
    """
    given = _given(request.uri.partition(b"?")[2])
    known = {parameter.name: parameter for parameter in parameters}
    _checked("the query", lambda: refuse_unknown(given, known))
    return {name: _value(parameter, given.get(name, ())) for name, parameter in known.items()}


def body(request: IRequest, expected: Body) -> dict[str, Any]:
    """The members of the body's object, by name, with the defaults of those that are absent.

    :raises BadRequest: it is not what was expected.
    :raises TooLarge: it is longer than any that is expected.
    :raises UnsupportedMedia: it is not JSON.
    """
    content: Any = request.content
    raw: bytes = content.read(MAX_BODY + 1)
    if len(raw) > MAX_BODY:
        raise TooLarge(f"a body may have {MAX_BODY} bytes")
    if not raw:
        if expected.required:
            raise BadRequest("a body is needed: an object in JSON")
        return expected.shape.read({})
    kinds = texts(request.requestHeaders, b"Content-Type")
    if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != JSON_TYPE:
        raise UnsupportedMedia(f"a body should be JSON, and say so: Content-Type: {JSON_TYPE}")
    value = _decoded(raw)
    members: dict[str, Any] = _checked("the body", lambda: expected.shape.read(value))
    return members


def _given(text: bytes) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        raise BadRequest("the query is not UTF-8, or has too many parameters") from None
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    return given


def _value(parameter: Parameter, texts: Sequence[str]) -> Any:
    what = f"parameter {parameter.name}"
    if parameter.repeated:
        return _checked(what, lambda: [parameter.shape.parse(text) for text in texts])
    if len(texts) > 1:
        raise BadRequest(f"{what} is there {len(texts)} times")
    return _checked(what, lambda: parameter.shape.parse(texts[0])) if texts else parameter.default


def _checked(what: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Wrong as error:
        raise BadRequest(f"{what}: {error}") from None


def _decoded(raw: bytes) -> object:
    try:
        value: object = json.loads(
            raw.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_without_doubles
        )
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if _is_deeper(value, _MAX_DEPTH):
        raise BadRequest("the body is nested too deeply")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _without_doubles(pairs: Sequence[tuple[str, object]]) -> Mapping[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(doubled)} is there twice")
    return members


def _is_deeper(value: object, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (
                outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
            )
        ]
        if not level:
            return False
    return True
