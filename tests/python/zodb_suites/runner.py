"""Runs a suite in a separate process, and compares failures with ZODB's class."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zodb_suites.suites import ON_SERVERS, excuse

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
SUITE_DEADLINE = 3600  # seconds
# A test that fails among others, but passes this often on its own, failed only because of a
# short deadline. ZEO's tests have many of them.
REPETITIONS = 2
# A file system where syncs are free: the suites check results.
SHARED_MEMORY = "/dev/shm"  # noqa: S108 -- the directory in it has a name nobody can guess
MEMORY = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
# Length of the output to show of a process that ended early.
TAIL = 4000


@dataclass(frozen=True)
class Outcome:
    """How one test went: `passed`, `failed` or `skipped`, and the traceback or reason.

    If the suite's process did not finish, one more outcome is `broken`.
    """

    name: str
    outcome: str
    detail: str
    seconds: float


@dataclass
class Report:
    """Results of our class in a suite.

    Failing tests are in `failed`, unless they are `excused` by name or `beyond_reference`,
    because ZODB's own class fails them in this environment too. `repeated` are tests that
    failed at first and passed when repeated on their own. `opened` counts openings of our
    class, in the tests' process and in those that it starts.
    """

    suite: str
    opened: tuple[int, int] = (0, 0)
    passed: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    beyond_reference: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)

    @property
    def run(self) -> int:
        """Number of tests that ran, without skipped tests."""
        found = self.passed, self.repeated, self.failed, self.excused, self.beyond_reference
        return sum(len(names) for names in found)


def outcomes(
    suite: str, only: Sequence[str] = (), *, reference: bool
) -> tuple[dict[str, Outcome], tuple[int, int]]:
    """Run a suite, or only some of its tests, on our class, or on ZODB's as the reference.

    Returns the outcomes, and how often our class was opened by the tests' process and by
    others, which are servers.
    """
    places = [str(HERE.parent)] if reference else [str(HERE / "substitute"), str(HERE.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-W", "ignore", str(HERE / "child.py"), suite, *only]
    found = {}
    with tempfile.TemporaryDirectory(prefix="zodb-suite-", dir=MEMORY) as directory:
        errors, opened = Path(directory) / "stderr", Path(directory) / "opened"
        opened.touch()
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env={**environment, "TMPDIR": directory, "ZRS_SUITES_OPENED": str(opened)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
            try:
                output, _ = process.communicate(timeout=SUITE_DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
        for line in output.splitlines():
            outcome = Outcome(**json.loads(line))
            found[outcome.name] = outcome
        if process.returncode or not found:
            detail = errors.read_text(encoding="utf-8", errors="replace")[-TAIL:]
            name = f"the process of {suite} ended with {process.returncode}"
            found[name] = Outcome(name, "broken", detail, 0)
        openers = opened.read_text(encoding="ascii").split()
    here = openers.count(str(process.pid))
    return found, (here, len(openers) - here)


def pass_alone(suite: str, names: Sequence[str]) -> set[str]:
    """Return the tests that pass each time when they are repeated."""
    passing = set(names)
    for _ in range(REPETITIONS if names else 0):
        found, _ = outcomes(suite, names, reference=False)
        passing &= {name for name, outcome in found.items() if outcome.outcome == "passed"}
    return passing


def succeeded(outcome: Outcome | None) -> bool:
    """Return whether a test passed, or does not exist."""
    return outcome is None or outcome.outcome == "passed"


def check(suite: str) -> Report:
    """Run a suite on our class, and on ZODB's if a test does not pass."""
    report = Report(suite)
    ours, report.opened = outcomes(suite, reference=False)
    unclear = [o for o in ours.values() if o.outcome != "passed" and not excuse(o.name)]
    reference = outcomes(suite, reference=True)[0] if unclear else {}
    failed = [o for o in unclear if o.outcome == "failed"]
    repeatable = [o.name for o in failed if succeeded(reference.get(o.name))]
    repeated = pass_alone(suite, repeatable)
    for name, outcome in ours.items():
        theirs = reference.get(name)
        if outcome.outcome == "passed":
            report.passed.append(name)
        elif excuse(name):
            report.excused.append(name)
        elif name in repeated:
            report.repeated.append(name)
        elif succeeded(theirs) or outcome.outcome == "broken":
            report.failed.append(outcome)
        elif outcome.outcome == "skipped":
            report.skipped.append(name)
        else:
            report.beyond_reference.append(name)
    report.failed += [
        Outcome(name, "failed", "not run on our class", 0)
        for name, theirs in reference.items()
        if name not in ours and succeeded(theirs)
    ]
    if suite in ON_SERVERS and not report.opened[1]:
        name = f"no server of {suite} opened our class"
        report.failed.append(Outcome(name, "broken", "", 0))
    return report
