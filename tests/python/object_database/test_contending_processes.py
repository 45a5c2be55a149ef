"""Eight processes commit to one file, and are killed at random.

The environment variable `ZRS_CONTEND` sets the duration in seconds, `ZRS_SEED` the times.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import transaction

from dobbin.command import main
from object_database.contending import add_up
from object_database.things import Counter, Tree, elect

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.database import Database

PROGRAM = Path(__file__).with_name("contending.py")
PROCESSES = 8
SECONDS = float(os.environ.get("ZRS_CONTEND", "5"))
LONGEST_PAUSE = 0.4  # seconds between kills


class Contender:
    """A process that is restarted when it is killed, and its output."""

    def __init__(self, path: str, which: str, errors: Path) -> None:
        self._command = [sys.executable, str(PROGRAM), path, which]
        self._errors = errors
        self.acknowledged = 0
        self.commits = 0
        self.unreported = 0  # processes that may have committed without reporting it
        self.start()

    def start(self) -> None:
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.acknowledged = int(line)
            self.unreported = 0
            self.commits += 1

    def kill(self) -> None:
        """Kill the process; it must not have ended by itself."""
        self._process.kill()
        status = self._process.wait()
        self._reader.join()
        self.unreported += 1
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert status == -signal.SIGKILL, self._errors.read_text()


@pytest.mark.timeout(120 + 3 * SECONDS)
def test_acknowledged_commits_are_kept_and_add_up(
    open_database: Callable[..., Database], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = os.environ.get("ZRS_SEED") or str(random.getrandbits(32))
    chance = random.Random(seed)  # noqa: S311 -- times, not secrets
    db = open_database(sync="commit")
    names = [f"counter {number}" for number in range(PROCESSES)]
    root = elect(db, Tree({name: Counter() for name in [*names, "total"]}))
    errors = tmp_path / "errors"
    reader = Contender(db.path, "read", errors)
    contenders = {name: Contender(db.path, name, errors) for name in names}
    kills = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(chance.random() * LONGEST_PAUSE)
        victim = contenders[chance.choice(names)]
        before = victim.commits
        victim.kill()
        kills += victim.commits >= before
        transaction.begin()
        add_up(root)
        if chance.random() < 0.1:
            db.compact()
        victim.start()
    for contender in [reader, *contenders.values()]:
        contender.kill()
    transaction.begin()
    for name, contender in contenders.items():
        # Each killed process may have made one commit that it did not report.
        unreported = root[name].count - contender.acknowledged
        assert 0 <= unreported <= contender.unreported, (seed, name)
    add_up(root)
    assert sum(contender.commits for contender in contenders.values()) > kills > 3, seed
    assert errors.read_text() == ""
    db.close()
    assert main(["check", db.path]) == 0
    assert "no problems" in capsys.readouterr().out
    assert open_database().root["total"].count == sum(root[name].count for name in names)
