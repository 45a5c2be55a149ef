"""Runs ZODB's and ZEO's suites on our FileStorage; prints what passed, fails if not all did.

Usage: ``python -m zodb_suites [SUITE ...]``
"""

# ruff: noqa: T201 (printing is what a command does)

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from zodb_suites.runner import Report, check
from zodb_suites.suites import EXCUSED, SUITES

if TYPE_CHECKING:
    from collections.abc import Sequence

# Suites are processes; the slow ones mostly wait.
AT_ONCE = 2
COLUMNS = ("passed", "excused", "skipped", "beyond_reference", "failed")
ROW = "{:<50} {:>6} {:>7} {:>8} {:>8} {:>10} {:>7}"


def main(suites: Sequence[str]) -> int:
    """Run the suites and print the table; return 1 if a test failed, else 0."""
    print(ROW.format("suite", "run", "passed", "excused", "skipped", "ZODB fails", "failed"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reports = []
        for report in pool.map(check, suites or SUITES):
            reports.append(report)
            print_row(report.suite, report)
    total = Report("")
    for report in reports:
        for column in COLUMNS:
            getattr(total, column).extend(getattr(report, column))
    print_row("all", total)
    explain(total)
    return 1 if total.failed else 0


def print_row(title: str, report: Report) -> None:
    """Print a line of the table."""
    counts = [len(getattr(report, column)) for column in COLUMNS]
    print(ROW.format(title, report.run, *counts), flush=True)


def explain(total: Report) -> None:
    """Print which tests did not pass, and why that is right or how they failed."""
    if total.excused:
        print("\nExcused:")
        for name in total.excused:
            print(f"  {name}: {EXCUSED[name]}")
    if total.beyond_reference:
        print("\nZODB's own class fails here too:")
        for name in total.beyond_reference:
            print(f"  {name}")
    for outcome in total.failed:
        print(f"\nFAILED {outcome.name} ({outcome.outcome})\n{outcome.detail}")


sys.exit(main(sys.argv[1:]))
