"""Run ZODB's and ZEO's suites on our FileStorage, and print a table of the results.

Usage: ``python -m zodb_suites [SUITE ...]``
"""

# ruff: noqa: T201 (printing is what a command does)

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from zodb_suites.runner import Report, check
from zodb_suites.suites import SUITES, excuse

if TYPE_CHECKING:
    from collections.abc import Sequence

# Suites run in processes; the slow ones mostly wait.
AT_ONCE = 2
COLUMNS = ("passed", "repeated", "excused", "skipped", "beyond_reference", "failed")
ROW = "{:<50} {:>5} {:>6} {:>8} {:>7} {:>7} {:>10} {:>6} {:>12}"
TITLES = ("suite", "run", "passed", "repeated", "excused", "skipped", "ZODB fails", "failed")


def main(suites: Sequence[str]) -> int:
    """Run the suites and print the table; return 1 if a test failed, else 0."""
    print(ROW.format(*TITLES, "tests+servers"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reports = []
        for report in pool.map(check, suites or SUITES):
            reports.append(report)
            print_row(report.suite, report)
    total = Report("")
    for report in reports:
        for column in COLUMNS:
            getattr(total, column).extend(getattr(report, column))
    total.opened = (sum(r.opened[0] for r in reports), sum(r.opened[1] for r in reports))
    print_row("all", total)
    explain(total)
    return 1 if total.failed else 0


def print_row(title: str, report: Report) -> None:
    """Print a line of the table."""
    counts = [len(getattr(report, column)) for column in COLUMNS]
    here, servers = report.opened
    print(ROW.format(title, report.run, *counts, f"{here}+{servers}"), flush=True)


def explain(total: Report) -> None:
    """Print the tests that did not pass, with their excuse or failure."""
    if total.excused:
        print("\nExcused:")
        for name in total.excused:
            print(f"  {name}: {excuse(name)}")
    if total.beyond_reference:
        print("\nZODB's own class fails here too:")
        for name in total.beyond_reference:
            print(f"  {name}")
    if total.repeated:
        print("\nFailed among others, passed each time when repeated on their own:")
        for name in total.repeated:
            print(f"  {name}")
    for outcome in total.failed:
        print(f"\nFAILED {outcome.name} ({outcome.outcome})\n{outcome.detail}")


sys.exit(main(sys.argv[1:]))
