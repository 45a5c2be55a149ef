"""Progress of the commands: a bar on a terminal with rich, else lines; clean output."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from ZODB.TimeStamp import TimeStamp

from damage.database import build
from damage.kinds import previous
from faults.network import Network
from replicas.opening import tcp_address
from replicas.transactions import commit
from zc.zrs.commands import progress
from zc.zrs.filestorage import FileStorage
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener

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


def on_a_terminal(
    command: list[str], *, stdout: bool = False, until: bytes | None = None
) -> tuple[int, bytes, str]:
    """Run a command with standard error, or all output, on a terminal.

    Returns its exit status, its output on the terminal, and its other output. With `until`,
    SIGTERM ends it when the terminal has received that.
    """
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        command,
        stdout=terminal if stdout else subprocess.PIPE,
        stderr=terminal,
        env=environment,
        text=True,
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(controller, 4096):
                shown += piece
                if until is not None and until in shown:
                    process.terminate()
        except OSError:
            pass  # the other end is closed
        finally:
            os.close(controller)
        output = "" if process.stdout is None else process.stdout.read()
    return process.returncode, shown, output


def without_rich(*settings: str) -> list[str]:
    """Return the command ``zrs`` without rich, after some statements."""
    source = [
        "import sys",
        "sys.modules['rich'] = None",
        "from zc.zrs.commands import catching_up, progress",
        "assert not progress.RICH",
        *settings,
        "from zc.zrs.command import main",
        "sys.exit(main())",
    ]
    return [sys.executable, "-c", "\n".join(source)]


def test_a_bar_on_a_terminal(path: Path) -> None:
    status, shown, output = on_a_terminal([*COMMAND, str(path)])
    assert status == 1
    assert b"transactions" in shown
    assert re.search(rb"\d+%", shown)
    # The piped output has only the problems.
    assert len(output.splitlines()) == 2
    assert "\x1b" not in output
    assert "previous record" in output


def test_lines_on_a_terminal_without_rich(path: Path) -> None:
    settings = [
        "progress.SECONDS_BETWEEN_LINES = 0",
        "from zc.zrs.commands import check",
        "check.STEP = 1",
    ]
    status, shown, output = on_a_terminal([*without_rich(*settings), "check", str(path)])
    assert status == 1
    line = rb"^transactions: \d+% of [\d.]+ [kM]?B, [\d.]+ [kM]?B/s, \d:\d\d:\d\d left\r$"
    assert re.search(line, shown, re.MULTILINE)
    assert b"\x1b" not in shown
    assert len(output.splitlines()) == 2


def test_a_bar_with_rate_and_remaining_time() -> None:
    program = """
import time
from zc.zrs.commands.progress import progress
with progress() as show:
    for done in range(0, 60):
        show("copying", done * 1000, 100_000, "bytes")
        time.sleep(0.01)
"""
    _, shown, _ = on_a_terminal([sys.executable, "-c", program])
    assert re.search(rb"copying.*\d+%.* [\d.]+ [kM]?B/s +\d:\d\d:\d\d left", shown)


def test_a_pack_shows_its_phases(tmp_path: Path) -> None:
    path = tmp_path / "packed.fs"
    with contextlib.closing(FileStorage(str(path))) as storage:
        for n in range(2000):
            commit(storage, {n % 100: b"x" * 1000})
    looks = ["progress.SECONDS_BETWEEN_UPDATES = 0.0001", "progress.SECONDS_BETWEEN_LINES = 0"]
    status, shown, output = on_a_terminal([*without_rich(*looks), "pack", "--no-gc", str(path)])
    assert status == 0
    assert re.search(rb"^(reading|copying): \d+% of ", shown, re.MULTILINE)
    assert output.startswith("packed ")


def test_a_pack_reports_its_progress(tmp_path: Path) -> None:
    with contextlib.closing(FileStorage(str(tmp_path / "Data.fs"))) as storage:
        assert storage._pack_progress() == ("", 0, 0)
        for n in range(10):
            commit(storage, {n % 3: b"x" * 1000})
        size = storage.getSize()
        storage.pack(time.time() + 1, lambda *_: [], gc=False)
        assert storage._pack_progress() == ("copying", size, size)


@pytest.mark.parametrize("rich", [True, False])
def test_a_secondary_shows_how_it_catches_up(
    tmp_path: Path, opener: Opener, rich: bool
) -> None:
    with contextlib.closing(FileStorage(str(opener.path))) as storage:
        for year in range(2001, 2011):
            commit(storage, {0: b"x" * 10_000}, tid=TimeStamp(year, 1, 1, 0, 0, 0).raw())
    primary = opener.primary()
    # Half of the data have been sent.
    network = opener.closing(
        Network(tcp_address(primary), hold_after=opener.path.stat().st_size // 2)
    )
    lines = "progress.SECONDS_BETWEEN_LINES = 0"
    command = [*COMMAND[:-1]] if rich else without_rich(lines)
    copy = str(tmp_path / "copy.fs")
    status, shown, output = on_a_terminal(
        [*command, "secondary", copy, "--from", show_address(network.address)],
        until=b"catching up",
    )
    assert status == 0
    assert re.search(rb"catching up.*\d+%.*transactions/s", shown)
    assert output.startswith("replicating from ")


def test_only_problems_are_printed_without_a_terminal(path: Path) -> None:
    done = subprocess.run([*COMMAND, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2


def test_plain_lines_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.progress() as show:
        show("transactions", 25, 100)
        show("references", 3, 3)
    assert capsys.readouterr().err == "transactions: 25% of 100\nreferences: 100% of 3\n"
