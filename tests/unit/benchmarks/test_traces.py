"""The traces are what they say they are."""

import itertools
from collections import Counter

import pytest

from benchmarks.traces import KINDS, trace
from tests.cloud.payload import GIB, MIB

_COUNT = 4000


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_follows_from_its_seed(kind: str) -> None:
    """The same again for the same seed, another one for another."""
    assert trace(kind, 300, 1) == trace(kind, 300, 1)
    assert trace(kind, 300, 1) != trace(kind, 300, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_has_one_size_and_a_likely_one(kind: str) -> None:
    """From 50 MiB to 20 GiB, half of them about 2 GiB or less."""
    told = trace(kind, _COUNT, 0)
    assert len(told.requests) == _COUNT
    sizes = {request.image: request.size for request in told.requests}
    assert all(sizes[request.image] == request.size for request in told.requests)
    assert all(50 * MIB <= size <= 20 * GIB for size in sizes.values())
    assert sorted(sizes.values())[len(sizes) // 2] < 4 * GIB
    assert told.footprint == sum(sizes.values())
    assert told.size == sum(request.size for request in told.requests)


def test_popularity() -> None:
    """A tenth of the images gets most of the requests."""
    counts = Counter(request.image for request in trace("popularity", _COUNT, 0).requests)
    popular = sum(count for _, count in counts.most_common(60))
    assert popular > _COUNT * 0.5


def test_storms() -> None:
    """Somewhere one image is asked for many times in a row, more or less."""
    requests = trace("boot storms", _COUNT, 0).requests
    windows = (requests[start : start + 40] for start in range(0, _COUNT - 40, 10))
    densest = max(Counter(request.image for request in window).most_common(1)[0][1] for window in windows)
    assert densest >= 20


def test_scans() -> None:
    """In each, large images one after the other, none of them twice."""
    requests = trace("scans", _COUNT, 0).requests
    runs = [
        [request.image for request in run]
        for archived, run in itertools.groupby(requests, key=lambda request: "archive" in request.image)
        if archived
    ]
    assert len(runs) >= 3
    assert all(len(run) == len(set(run)) for run in runs)
    assert min(request.size for request in requests if "archive" in request.image) > 2 * GIB


def test_releases() -> None:
    """What is asked for at the end is mostly not what was asked for at the beginning."""
    requests = trace("releases", _COUNT, 0).requests
    early = {request.image for request in requests[:1000]}
    assert sum(request.image in early for request in requests[-1000:]) < 300
