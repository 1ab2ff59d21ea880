"""Whom a limit of open files is enough for."""

from __future__ import annotations

import resource

import pytest
from twisted.logger import capturedLogs

from txglancecache.cache.shelf import KEPT_OPEN
from txglancecache.clients.site import TURNED_AWAY
from txglancecache.errors import ConfigurationError
from txglancecache.service.descriptors import affordable, raise_limit


def test_enough() -> None:
    """Nothing is lowered, and nothing said."""
    with capturedLogs() as events:
        assert affordable(1 << 20, 4096, 128, 256) == 4096
        assert affordable(resource.RLIM_INFINITY, 10**6, 128, 256) == 10**6
        assert affordable(20_000, 1, 1, 1) == 1
    assert events == []


def test_not_enough() -> None:
    """As many as there is room for, at two each, once the others have theirs; and the operator is told."""
    with capturedLogs() as events:
        count = affordable(4096, 4096, 128, 256)
    assert 128 + 5 * 256 + KEPT_OPEN + 2 * TURNED_AWAY + 2 * count < 4096 - 100
    assert count > 800
    (event,) = events
    assert (event["count"], event["wanted"], event["limit"]) == (count, 4096, 4096)


def test_far_too_few() -> None:
    """The node does not start, and says what is needed."""
    with pytest.raises(ConfigurationError, match=r"RLIMIT_NOFILE.* is 1024, and \d+ are needed"):
        affordable(1024, 4096, 128, 256)


def test_raise_limit() -> None:
    """The soft limit is the hard one afterwards."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
    assert raise_limit() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
