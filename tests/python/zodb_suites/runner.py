"""Runs a suite in a process of its own, and compares with ZODB's class where it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from zodb_suites.suites import EXCUSED

HERE = Path(__file__).parent
SUITE_DEADLINE = 1800  # seconds
# Where syncing costs nothing: the suites are about results.
SHARED_MEMORY = "/dev/shm"  # noqa: S108 -- the directory in it has a name nobody can guess
MEMORY = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
# Of the output of a process that ended early, what is enough to see why.
TAIL = 4000


@dataclass(frozen=True)
class Outcome:
    """How one test went: `passed`, `failed` or `skipped`, and the traceback or reason.

    Where the process of the suite did not get through, one more outcome is `broken`.
    """

    name: str
    outcome: str
    detail: str
    seconds: float


@dataclass
class Report:
    """How our class did in a suite.

    What fails is in `failed`, unless it is `excused` by name or `beyond_reference`: tests
    that ZODB's own class fails in this environment too.
    """

    suite: str
    passed: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    beyond_reference: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)

    @property
    def run(self) -> int:
        """How many tests ran; a skipped test does not."""
        passed, failed = len(self.passed), len(self.failed)
        return passed + failed + len(self.excused) + len(self.beyond_reference)


def outcomes(suite: str, *, reference: bool) -> dict[str, Outcome]:
    """Run a suite on our class, or on ZODB's as the reference, and return what came out."""
    places = [str(HERE.parent)] if reference else [str(HERE / "substitute"), str(HERE.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-W", "ignore", str(HERE / "child.py"), suite]
    found = {}
    with tempfile.TemporaryDirectory(prefix="zodb-suite-", dir=MEMORY) as directory:
        errors = Path(directory) / "stderr"
        with errors.open("wb") as stderr:
            process = subprocess.run(
                command,
                cwd=directory,
                env={**environment, "TMPDIR": directory},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                check=False,
                timeout=SUITE_DEADLINE,
            )
        for line in process.stdout.splitlines():
            outcome = Outcome(**json.loads(line))
            found[outcome.name] = outcome
        if process.returncode or not found:
            detail = errors.read_text(encoding="utf-8", errors="replace")[-TAIL:]
            name = f"the process of {suite} ended with {process.returncode}"
            found[name] = Outcome(name, "broken", detail, 0)
    return found


def check(suite: str) -> Report:
    """Run a suite on our class, and on ZODB's if some test does not pass."""
    report = Report(suite)
    ours = outcomes(suite, reference=False)
    unclear = [o for o in ours.values() if o.outcome != "passed" and o.name not in EXCUSED]
    reference = outcomes(suite, reference=True) if unclear else {}
    for name, outcome in ours.items():
        theirs = reference.get(name)
        if outcome.outcome == "passed":
            report.passed.append(name)
        elif name in EXCUSED:
            report.excused.append(name)
        elif theirs is None or theirs.outcome == "passed" or outcome.outcome == "broken":
            report.failed.append(outcome)
        elif outcome.outcome == "skipped":
            report.skipped.append(name)
        else:
            report.beyond_reference.append(name)
    report.failed += [
        Outcome(name, "failed", "not run on our class", 0)
        for name, theirs in reference.items()
        if name not in ours and theirs.outcome == "passed"
    ]
    return report
