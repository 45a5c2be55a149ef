"""Signals to daemons: ending them, and reopening the log."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from programs import ZRS, free_port, running
from replicas.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from programs import Program

DAEMONS = ("primary", "secondary", "zrsmonitor", "zkrunzeo")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(daemon: str, tmp_path: Path, stack: ExitStack) -> tuple[Program, Path]:
    """Start a daemon that logs to a file; return it, once it handles signals, and the file."""
    log = tmp_path / "daemon.log"
    stderr = tmp_path / "stderr"
    options = ["--log-level", "info", "--log-file", log, "--status", "127.0.0.1:0"]
    if daemon == "primary":
        command = [*ZRS, daemon, tmp_path / "a.fs", "--listen", "127.0.0.1:0", *options]
    elif daemon == "secondary":
        command = [
            *ZRS,
            daemon,
            tmp_path / "b.fs",
            "--from",
            f"127.0.0.1:{free_port()}",
            *options,
        ]
    elif daemon == "zrsmonitor":
        servers = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
        command = [sys.executable, "-m", "zc.zrs.monitor", "-w", "1", *servers]
        command += ["--log-file", log, "-i", "0.1"]
    else:
        conf = tmp_path / "zeo.conf"
        conf.write_text(
            f"<zeo>\n address 127.0.0.1:{free_port()}\n</zeo>\n<mappingstorage 1>\n"
            f"</mappingstorage>\n<eventlog>\n <logfile>\n  path {log}\n </logfile>\n</eventlog>\n"
        )
        command = [sys.executable, "-m", "zc.zkzeo.runzeo", "-C", conf]
    program = stack.enter_context(running(command, stderr))
    if daemon in {"primary", "secondary"}:
        program.wait_for("status on")
    else:
        wait_until(lambda: log.exists() and log.stat().st_size)
    if daemon == "zkrunzeo":
        wait_until(lambda: "listening" in log.read_text())
    return program, log


@pytest.mark.parametrize("daemon", DAEMONS)
def test_sighup_closes_a_daemon(daemon: str, tmp_path: Path, stack: ExitStack) -> None:
    program, _ = start(daemon, tmp_path, stack)
    assert program.end(signal.SIGHUP) == 1
    assert "Traceback" not in program.log


@pytest.mark.parametrize("daemon", ["primary", "secondary"])
def test_sighup_saves_the_index(daemon: str, tmp_path: Path, stack: ExitStack) -> None:
    program, _ = start(daemon, tmp_path, stack)
    program.end(signal.SIGHUP)
    assert list(tmp_path.glob("*.fs.index"))


@pytest.mark.parametrize("daemon", DAEMONS)
def test_sigusr2_reopens_the_log(daemon: str, tmp_path: Path, stack: ExitStack) -> None:
    program, log = start(daemon, tmp_path, stack)
    log.rename(tmp_path / "daemon.log.1")
    os.kill(program.pid, signal.SIGUSR2)
    wait_until(lambda: log.exists() and log.stat().st_size)
    assert program.running
    assert program.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("daemon", DAEMONS)
def test_sigusr1_leaves_a_daemon_running(daemon: str, tmp_path: Path, stack: ExitStack) -> None:
    program, log = start(daemon, tmp_path, stack)
    os.kill(program.pid, signal.SIGUSR1)
    wait_until(lambda: "SIGUSR1" in log.read_text())
    assert program.running
    assert program.end(signal.SIGTERM) == 0


def test_sigusr2_without_a_log_file_is_reported(tmp_path: Path, stack: ExitStack) -> None:
    command = [*ZRS, "primary", tmp_path / "a.fs", "--listen", "127.0.0.1:0"]
    program = stack.enter_context(running(command, tmp_path / "stderr"))
    program.wait_for("replication on")
    os.kill(program.pid, signal.SIGUSR2)
    wait_until(lambda: "no log file is configured" in program.log)
    assert program.end(signal.SIGTERM) == 0


def test_nohup_keeps_a_daemon_running(tmp_path: Path, stack: ExitStack) -> None:
    command = ["nohup", *ZRS, "primary", tmp_path / "a.fs", "--listen", "127.0.0.1:0"]
    program = stack.enter_context(running(command, tmp_path / "stderr"))
    program.wait_for("replication on")
    os.kill(program.pid, signal.SIGHUP)
    os.kill(program.pid, signal.SIGUSR1)
    wait_until(lambda: "SIGUSR1" in program.log)
    assert program.running
    assert program.end(signal.SIGTERM) == 0


def test_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path, stack: ExitStack) -> None:
    log = tmp_path / "missing" / "zrs.log"
    command = [*ZRS, "primary", tmp_path / "a.fs", "--listen", "127.0.0.1:0", "--log-file", log]
    program = stack.enter_context(running(command, tmp_path / "stderr"))
    wait_until(lambda: not program.running)
    assert program.end() == 1
    assert f"cannot log to {log}: No such file or directory" in program.log
