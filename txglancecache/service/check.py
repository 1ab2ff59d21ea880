"""``twistd glancecache --check``: looks at the cache directory of a node that is not running, and says so."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from attrs import define, field

from txglancecache.cache.audit import Audit, Finding, Report
from txglancecache.cache.cache import CacheSettings
from txglancecache.service.config import Settings
from txglancecache.sizes import format_size
from txglancecache.store.directory import Directory

#: Findings of a kind that are told one by one.
_TOLD = 20
#: Seconds between two lines that say how far it is.
_PROGRESS_INTERVAL = 5.0


def check(settings: Settings, *, digests: bool) -> bool:
    """Print what there is to say about the directory; returns whether it is undamaged.

    :param digests: hash the whole bodies, too.
    :raises StoreError: it cannot be looked at, because a node is using it for one.
    """
    directory = Directory.open_as_it_is(Path(settings.cache_dir))
    try:
        limits = CacheSettings(settings.max_size, settings.min_free, settings.max_entries)
        report = Audit(directory, settings.origin, limits, digests, _Ticker(sys.stderr).tell).run()
    finally:
        directory.close()
    for line in report_lines(settings.cache_dir, report):
        print(line)
    return not report.damage


def report_lines(path: str, report: Report) -> Iterator[str]:
    """The report for a terminal."""
    hashed = f", {format_size(report.hashed)} hashed" if report.hashed else ""
    yield (
        f"{path}: {report.images} images, {report.complete} of them whole, "
        f"{format_size(report.bytes_recorded)} in {report.files} files{hashed}"
    )
    yield from _told("damaged", report.damage)
    yield from _told("left over, for the next start to tidy up", report.leftovers)
    if not report.findings:
        yield "nothing wrong, nothing left over"


def _told(kind: str, findings: Sequence[Finding]) -> Iterator[str]:
    if findings:
        yield f"{len(findings)} {kind}:"
    for finding in findings[:_TOLD]:
        yield f"  {finding.where}: {finding.what}"
    if len(findings) > _TOLD:
        yield f"  and {len(findings) - _TOLD} more"


@define(eq=False)
class _Ticker:
    """Says now and then how far it is."""

    _to: TextIO
    _said: float = field(factory=time.monotonic)

    def tell(self, done: int, total: int) -> None:
        if time.monotonic() - self._said >= _PROGRESS_INTERVAL:
            self._said = time.monotonic()
            print(f"hashed {format_size(done)} of {format_size(total)}", file=self._to, flush=True)
