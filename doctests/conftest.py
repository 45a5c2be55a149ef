"""Where the runner of the originals is found, and what the end of a test run says of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Tests are imported with importlib, which leaves `doctests` off sys.path.
sys.path.insert(0, str(Path(__file__).parents[1]))
# The servers that the examples talk to are those of the tests.
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
    """End what a page that failed has left in this thread, or the next ones fail too."""
    yield
    transaction.abort()
