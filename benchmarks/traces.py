"""Requests for images as clouds make them, made up: who is asked for, in which order, and how large it is.

Pure, and the same for the same seed."""

import bisect
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import field, frozen

from tests.cloud.payload import GIB, MIB

_SMALLEST, _LARGEST = 50 * MIB, 20 * GIB
_MEDIAN, _SIGMA = 2 * GIB, 1.2
_IMAGES = 600
_ZIPF = 0.9


@frozen
class Request:
    """One download of a whole image."""

    image: str
    size: int


@frozen
class Trace:
    """Requests in the order in which they come."""

    name: str
    requests: Sequence[Request]

    @property
    def footprint(self) -> int:
        """The bytes of all images that are asked for."""
        return sum({request.image: request.size for request in self.requests}.values())

    @property
    def size(self) -> int:
        """The bytes of all requests."""
        return sum(request.size for request in self.requests)


@frozen
class _Catalog:
    """Images by popularity. What is new enters somewhere among them, and pushes the least popular out."""

    rng: random.Random
    kind: str
    images: list[Request] = field(factory=list)
    _serial: Iterator[int] = field(factory=itertools.count)
    _weights: list[float] = field(
        factory=lambda: [*itertools.accumulate(1 / rank**_ZIPF for rank in range(1, _IMAGES + 1))]
    )

    @classmethod
    def of(cls, rng: random.Random, kind: str) -> "_Catalog":
        catalog = cls(rng, kind)
        catalog.images.extend(catalog.new() for _ in range(_IMAGES))
        return catalog

    def new(self) -> Request:
        size = int(self.rng.lognormvariate(0, _SIGMA) * _MEDIAN)
        return Request(f"{self.kind}-{next(self._serial)}", min(max(size, _SMALLEST), _LARGEST))

    def pick(self) -> Request:
        """One of them, by Zipf's law."""
        return self.images[bisect.bisect_left(self._weights, self.rng.random() * self._weights[-1])]

    def publish(self) -> None:
        self.images.insert(int(self.rng.random() ** 3 * _IMAGES), self.new())
        self.images.pop()


def popularity(rng: random.Random) -> Iterator[Request]:
    """Some images are asked for often, most are not, and it stays so."""
    catalog = _Catalog.of(rng, "image")
    while True:
        yield catalog.pick()


def boot_storms(rng: random.Random) -> Iterator[Request]:
    """Among these, now and then many instances of one image start, half of the time of one that is new."""
    catalog = _Catalog.of(rng, "image")
    while True:
        for _ in range(rng.randint(50, 300)):
            yield catalog.pick()
        image = catalog.new() if rng.random() < 0.5 else catalog.pick()
        for _ in range(rng.randint(20, 150)):
            yield image if rng.random() < 0.8 else catalog.pick()


def scans(rng: random.Random) -> Iterator[Request]:
    """Now and then somebody reads a row of large images, each once: a backup, a conversion, an audit."""
    catalog, archive = _Catalog.of(rng, "image"), _Catalog.of(rng, "archive")
    large = sorted(archive.images, key=lambda request: -request.size)[: _IMAGES // 5]
    while True:
        for _ in range(rng.randint(300, 600)):
            yield catalog.pick()
        begin = rng.randrange(len(large))
        yield from (large[(begin + number) % len(large)] for number in range(rng.randint(20, 80)))


def releases(rng: random.Random) -> Iterator[Request]:
    """What is popular changes: new images come out all the time, and the old ones are forgotten."""
    catalog = _Catalog.of(rng, "image")
    while True:
        for _ in range(10):
            yield catalog.pick()
        catalog.publish()


def everything(rng: random.Random) -> Iterator[Request]:
    """Storms, scans and releases at once."""
    sources = [boot_storms(rng), scans(rng), releases(rng)]
    prefixes = ["a", "b", "c"]
    while True:
        number = rng.randrange(len(sources))
        for _ in range(rng.randint(20, 200)):
            request = next(sources[number])
            yield Request(f"{prefixes[number]}-{request.image}", request.size)


KINDS: Mapping[str, Callable[[random.Random], Iterator[Request]]] = {
    "popularity": popularity,
    "boot storms": boot_storms,
    "scans": scans,
    "releases": releases,
    "all of these": everything,
}


def trace(kind: str, requests: int, seed: int) -> Trace:
    """The first requests of a kind of trace."""
    return Trace(kind, [*itertools.islice(KINDS[kind](random.Random(f"{kind} {seed}")), requests)])
