"""The campaign of this run, and its table at the end."""

import time
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign, text_table, write_page

_CAMPAIGN = pytest.StashKey[Campaign]()
_BEGUN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--whole-campaign", action="store_true", help="run the trials at their full length")
    group.addoption("--faults-page", type=Path, help="write the table there, as reStructuredText")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CAMPAIGN] = Campaign(config.getoption("--whole-campaign", False))
    config.stash[_BEGUN] = time.monotonic()


@pytest.fixture(scope="session")
def campaign(pytestconfig: pytest.Config) -> Campaign:
    """How long the trials are, and where they write down what they found."""
    return pytestconfig.stash[_CAMPAIGN]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    rows = config.stash[_CAMPAIGN].sorted_rows()
    if not rows:
        return
    terminalreporter.section("what was done, how often, what clients saw, what was lost")
    for line in text_table(rows):
        terminalreporter.write_line(line)
    page = config.getoption("--faults-page", None)
    if page is not None and exitstatus == 0:
        write_page(page, rows, time.monotonic() - config.stash[_BEGUN])
        terminalreporter.write_line(f"The table is in {page}.")
