"""Bytes of strangers, by the hundred; `tests.unit.fuzzing` says what is promised about them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.unit.fuzzing import PROMISES


@pytest.mark.parametrize("what", PROMISES)
def test_promise(what: str) -> None:
    """It holds whatever comes."""
    promise = PROMISES[what]
    settings(max_examples=300)(given(promise.values)(promise.check))()
