"""Output that cannot be written, dumb or narrow terminals, and limited encodings."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from ZEO.StorageServer import StorageServer
from ZODB.MappingStorage import MappingStorage

from zc.zrs.commands.status_table import table
from zc.zrs.status.observer import Observer
from zc.zrs.status.server import StatusServer
from zc.zrs.system.address import show_address
from zc.zrs.system.terminal import is_screen

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = ("127.0.0.1", 0)
TIMEOUT = 60


@pytest.fixture
def zeo() -> Iterator[str]:
    """Serve a storage with a non-ASCII name to ZEO clients."""
    server = StorageServer(LOOPBACK, {"données": MappingStorage()})
    server.start_thread()
    with contextlib.closing(server):
        yield show_address(server.acceptor.addr)


@pytest.fixture
def status() -> Iterator[str]:
    """Serve a made-up status of a primary."""
    found: Any = {
        "state": "listening",
        "address": LOOPBACK,
        "tid": None,
        "peers": [],
    }
    with contextlib.closing(StatusServer(LOOPBACK)) as server:
        server.start(Observer(found.copy, "primary", "Data.fs"))
        yield show_address(server.address)


def arguments(program: str, zeo: str, status: str) -> list[str]:
    """Return a command that succeeds."""
    rest = {
        "nagios": ["-w5", zeo, zeo],
        "last_transaction": [zeo],
        "command": ["status", status],
    }
    return [sys.executable, "-m", f"zc.zrs.{program}", *rest[program]]


def shell(redirection: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )


PROGRAMS = {
    "nagios": "zrs-nagios",
    "last_transaction": "last-zeo-transaction",
    "command": "zrs",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_characters_that_the_encoding_lacks(program: str, zeo: str, status: str) -> None:
    done = shell("", arguments(program, zeo, status))
    assert (done.returncode, done.stderr) == (0, "")
    assert ("? listening" if program == "command" else "donn?es") in done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_an_output_that_cannot_be_written(
    program: str, zeo: str, status: str, redirection: str
) -> None:
    done = shell(redirection, arguments(program, zeo, status))
    assert done.returncode == 2
    reason = "it is closed" if redirection == ">&-" else "No space left on device"
    assert done.stderr == f"{PROGRAMS[program]}: cannot write the output: {reason}\n"
    silent = shell(f"{redirection} 2>&-", arguments(program, zeo, status))
    assert (silent.returncode, silent.stderr) == (2, "")


def top(address: str, term: str, until: bytes) -> tuple[int, bytes]:
    """Run a command on a terminal until it shows the server, then send SIGTERM."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "100", "LINES": "20"}
    with subprocess.Popen(
        [sys.executable, "-m", "zc.zrs.command", "top", "--interval", "0.1", address],
        stdout=terminal,
        stderr=terminal,
        env=environment,
    ) as process:
        os.close(terminal)
        shown = b""
        while until not in shown:
            shown += os.read(controller, 4096)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(controller, 4096):
                shown += piece
        os.close(controller)
    return process.returncode, shown


def test_a_signal_restores_the_screen_and_the_cursor(status: str) -> None:
    exit_status, shown = top(status, "xterm", "● listening".encode())
    assert exit_status == 143
    assert shown.startswith(b"\x1b[?1049h")
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l")


def test_a_dumb_terminal_gets_only_lines(status: str) -> None:
    exit_status, shown = top(status, "dumb", "● listening".encode())
    assert exit_status == -signal.SIGTERM
    assert b"\x1b" not in shown


@pytest.mark.parametrize("term", ["xterm", "dumb", "unknown"])
def test_which_terminals_are_screens(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb"), os.fdopen(terminal, "w") as stream:
        assert is_screen(stream) == (term == "xterm")
    assert not is_screen(None)


def test_progress_on_a_dumb_terminal_is_lines() -> None:
    program = """
from zc.zrs.commands import progress
progress.SECONDS_BETWEEN_LINES = 0
with progress.progress() as show:
    show("copying", 1, 4, "bytes")
"""
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb", buffering=0) as shown, os.fdopen(terminal, "wb") as stderr:
        subprocess.run(
            [sys.executable, "-c", program],
            stderr=stderr,
            check=True,
            timeout=TIMEOUT,
            env={**os.environ, "TERM": "dumb"},
        )
        assert shown.read(4096) == b"copying: 25% of 4 B\r\n"


LINES = [
    ("db1.example.com:8180", "primary", "● listening", "12 min", "0.3", "1 kB", "3 s ago"),
    ("└ 192.168.100.100:54321", "peer", "◐ catching up", "12 min", "0.3", "1 kB", "3 s ago"),
    ("db2:1", "secondary", "✕ diverged", "-", "0.3", "1 kB", "3 s ago"),
]


@pytest.mark.parametrize("width", [26, 30, 35, 40, 50, 60])
def test_state_and_lag_are_visible_in_a_narrow_terminal(width: int) -> None:
    shown = [line[:width] for line in table(LINES, width)]
    for line, (name, _, state, lag, *_) in zip(shown[1:], LINES, strict=True):
        assert state in line
        assert lag in line.partition(state)[2]
        assert line.startswith(name[0])
    assert ("ROLE" in shown[0]) == (width >= 50)
    # A shortened name keeps both of its ends.
    first = shown[1].partition(" ")[0]
    assert first.startswith("d")
    assert width < 40 or first.endswith("80")


def test_nothing_is_truncated_if_there_is_room() -> None:
    assert table(LINES, 200) == table(LINES)
    assert "192.168.100.100:54321" in table(LINES)[2]


def on_a_terminal(columns: int, *command: str) -> bytes:
    """Run a `zrs` command on a terminal; return what it writes there."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "20"}
    with subprocess.Popen(
        [sys.executable, "-m", "zc.zrs.command", *command],
        stdout=terminal,
        stderr=terminal,
        env=environment,
    ):
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(controller, 4096):
                shown += piece
        os.close(controller)
    return shown


@pytest.mark.parametrize("command", [["status"], ["top", "--count", "1"]])
def test_commands_keep_to_the_width_of_the_terminal(status: str, command: list[str]) -> None:
    shown = on_a_terminal(30, *command, status).decode()
    (line,) = (one for one in shown.splitlines() if "listening" in one)
    text = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", line)
    assert text[:30].rstrip().endswith("● listening  -")
