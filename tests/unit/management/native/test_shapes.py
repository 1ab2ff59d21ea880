"""What is read is what is documented."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txglancecache.management.native.shapes import (
    Flag,
    Integer,
    ListOf,
    Member,
    Object,
    Shape,
    Size,
    Text,
    Wrong,
    shown,
)

NAME = Text(r"[a-c]{1,3}", most=2, what="up to two of a, b and c")
SHAPES: list[Shape] = [
    NAME,
    Text(choices=("red", "green")),
    Integer(-3, 7),
    Flag(),
    Size(),
    ListOf(NAME, 2),
    Object({"a": Member(Integer(0, 1), "A.", required=True), "b": Member(Flag(), "B.", default=True)}),
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 9)
    | st.sampled_from([2**63 - 1, 2**63, 1.0, 1.5, -1.0, 7.0])
    | st.sampled_from(
        ["", "a", "ab", "abc", "d", "red", "5", "5MB", "5 kib", "5EiB", " 5B", "5\n", "a\n", "1.5GB"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=500)
@given(shape=st.sampled_from(SHAPES), value=VALUES)
def test_agreement(shape: Shape, value: Any) -> None:
    """A value is read if, and only if, it is valid by the schema."""
    valid = jsonschema_rs.validator_for(json.loads(json.dumps(shape.schema))).is_valid(value)
    assert is_read(shape, value) == valid


def is_read(shape: Shape, value: Any) -> bool:
    try:
        shape.read(value)
    except Wrong:
        return False
    return True


@pytest.mark.parametrize(
    ("shape", "text", "value"),
    [
        (Integer(-3, 7), "-3", -3),
        (Integer(-3, 7), "007", 7),
        (Flag(), "true", True),
        (Flag(), "false", False),
        (Size(), "2KiB", 2048),
        (Size(), "17", 17),
        (Text(choices=("red",)), "red", "red"),
    ],
)
def test_parse(shape: Shape, text: str, value: object) -> None:
    """A parameter of a query is spelled as people spell it."""
    assert shape.parse(text) == value


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (Integer(-3, 7), "8"),
        (Integer(-3, 7), "1.0"),
        (Integer(-3, 7), "٣"),
        (Integer(-3, 7), "9" * 5000),
        (Integer(-3, 7), ""),
        (Flag(), "True"),
        (Flag(), "1"),
        (Size(), "10G"),
        (Text(choices=("red",)), "Red"),
        (ListOf(NAME, 2), "a"),
        (Object(), "{}"),
    ],
)
def test_no_parse(shape: Shape, text: str) -> None:
    """What is spelled otherwise is refused."""
    with pytest.raises(Wrong):
        shape.parse(text)


def test_defaults() -> None:
    """A member that is absent has its default; one that is wrong is named."""
    shape = Object({"a": Member(Integer(0, 1), "A."), "b": Member(ListOf(NAME, 2), "B.")})
    assert shape.read({"a": 1.0}) == {"a": 1, "b": None}
    with pytest.raises(Wrong, match="'b': member 1: should be up to two of a, b and c"):
        shape.read({"b": ["a", "x"]})


def test_shown() -> None:
    """What is repeated to its sender is short and plain."""
    assert shown("x" * 50) == "'" + "x" * 40 + "\\u2026'"
    assert shown("\ud800\n") == "'\\ud800\\n'"
