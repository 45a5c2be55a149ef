"""Make the doctests' modules importable, and summarize their results after a test run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# With the import mode importlib, pytest does not add `doctests` to sys.path.
sys.path.insert(0, str(Path(__file__).parents[1]))
# The examples use the servers of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "python"))

_COUNTS = pytest.StashKey[list[str]]()


@pytest.fixture
def report_count(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Show a line of text at the end of the test run."""
    return pytestconfig.stash.setdefault(_COUNTS, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    counts = config.stash.get(_COUNTS, [])
    if counts:
        terminalreporter.section("original documents")
        for line in counts:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _no_transaction_is_left() -> Iterator[None]:
    """Abort a failed page's transaction in this thread, or later pages fail too."""
    yield
    transaction.abort()
