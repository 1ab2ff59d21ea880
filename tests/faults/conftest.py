"""The campaign of this run, and its table at the end.

With `--last-failed` a run goes on with the campaign before it: what that one found stays in the table."""

import time
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict

from tests.faults.campaign import Campaign, Row, text_table, write_page

_CAMPAIGN = pytest.StashKey[Campaign]()
_BEGUN = pytest.StashKey[float]()
#: Where pytest keeps what a campaign has found, and how long it took.
_KEPT = "faults/campaign"
_ROWS = "faults"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--whole-campaign", action="store_true", help="run the trials at their full length")
    group.addoption("--faults-page", type=Path, help="write the table there, as reStructuredText")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    campaign = Campaign(config.getoption("--whole-campaign", False))
    begun = time.monotonic()
    cache = getattr(config, "cache", None)
    if cache is not None and config.getoption("--last-failed", False) and not hasattr(config, "workerinput"):
        kept = cache.get(_KEPT, {"rows": [], "seconds": 0})
        campaign.rows.extend(Row(**row) for row in kept["rows"])
        begun -= kept["seconds"]
    config.stash[_CAMPAIGN] = campaign
    config.stash[_BEGUN] = begun


@pytest.fixture(scope="session")
def campaign(pytestconfig: pytest.Config) -> Campaign:
    """How long the trials are, and where they write down what they found."""
    return pytestconfig.stash[_CAMPAIGN]


@pytest.hookimpl
def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes hands in what it found."""
    if hasattr(session.config, "workeroutput"):
        rows = session.config.stash[_CAMPAIGN].rows
        session.config.workeroutput[_ROWS] = [asdict(row) for row in rows]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    found = getattr(node, "workeroutput", {}).get(_ROWS, [])
    node.config.stash[_CAMPAIGN].rows.extend(Row(**row) for row in found)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    campaign = config.stash[_CAMPAIGN]
    rows, seconds = campaign.sorted_rows(), time.monotonic() - config.stash[_BEGUN]
    if not rows:
        return
    cache = getattr(config, "cache", None)
    if campaign.whole and cache is not None:
        cache.set(_KEPT, {"rows": [asdict(row) for row in rows], "seconds": seconds})
    terminalreporter.section("what was done, how often, what clients saw, what was lost")
    for line in text_table(rows):
        terminalreporter.write_line(line)
    page = config.getoption("--faults-page", None)
    if page is not None and exitstatus == 0:
        write_page(page, rows, seconds)
        terminalreporter.write_line(f"The table is in {page}.")
