"""Processes of old versions of zc.zrs, and the programs that they run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from programs import Program, running

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PROGRAMS = Path(__file__).parent / "peers"
CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class OldPeer:
    """An old zc.zrs with its own Python, which `variable` in the environment can replace."""

    name: str
    variable: str
    python2: bool

    def __str__(self) -> str:
        return self.name

    @property
    def python(self) -> Path:
        """Its interpreter; skips the test if it is missing."""
        made = CHECKOUT / ".peers" / self.name / "bin" / "python"
        python = Path(os.environ.get(self.variable) or made)
        if not python.exists():
            self._missing(python)
        return python

    def _missing(self, python: Path) -> None:
        note = CHECKOUT / ".peers" / f"{self.name}.unavailable"
        reason = note.read_text().strip() if note.exists() else f"there is no {python}"
        reason += f"; `make .peers/{self.name}.made` makes it, or set {self.variable}"
        if os.environ.get("CI") and not self.python2 and has_python_for_zrs31():
            pytest.fail(reason)
        pytest.skip(reason)

    def run(
        self, program: str, log: Path, *arguments: object
    ) -> AbstractContextManager[Program]:
        """Run one of the programs in `peers`; its log is appended to a file."""
        return running([self.python, PROGRAMS / f"{program}.py", *arguments], log)

    def make_file(self, path: Path, *shape: int) -> None:
        """Make a Data.fs: number of transactions, records in each, bytes in each record."""
        make_file(self.python, path, *shape)


def make_file(python: Any, path: Path, *shape: int) -> None:
    """Make a Data.fs with the ZODB of this Python."""
    command = [python, PROGRAMS / "make_fs.py", path, *shape]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


def has_python_for_zrs31() -> bool:
    """Return whether a Python that zc.zrs 3.1 could run on is installed."""
    versions = range(8, 12)
    return sys.version_info[1] in versions or any(
        shutil.which(f"python3.{minor}") for minor in versions
    )


ZRS31 = OldPeer("zrs31", "ZRS_PEER31", python2=False)
ZRS25 = OldPeer("zrs25", "ZRS_PEER25", python2=True)
