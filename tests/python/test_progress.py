"""Progress of the commands: a bar on a terminal, lines elsewhere, output undisturbed."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from damage.database import build
from damage.kinds import previous
from zc.zrs.commands import progress

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = (sys.executable, "-m", "zc.zrs.command", "check")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a database with one problem."""
    path = tmp_path / "Data.fs"
    build(path)
    data = bytearray(path.read_bytes())
    previous(data)
    path.write_bytes(data)
    return path


def test_a_bar_on_a_terminal(path: Path) -> None:
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        [*COMMAND, str(path)],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment,
        text=True,
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(controller, 4096):
                shown += piece
        except OSError:
            pass  # its last user has gone
        finally:
            os.close(controller)
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 1
    assert b"transactions" in shown
    assert re.search(rb"\d+%", shown)
    # What is piped away has the problems alone.
    assert len(output.splitlines()) == 2
    assert "\x1b" not in output
    assert "previous record" in output


def test_nothing_but_problems_where_there_is_no_terminal(path: Path) -> None:
    done = subprocess.run([*COMMAND, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2


def test_plain_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.progress() as show:
        show("transactions", 25, 100)
        show("references", 3, 3)
    assert capsys.readouterr().err == "transactions: 25% of 100\nreferences: 100% of 3\n"
