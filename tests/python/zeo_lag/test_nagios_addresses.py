"""``zrs-nagios``, ``zrsmonitor`` and ``last-zeo-transaction`` with invalid addresses."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from ZEO.StorageServer import StorageServer
from ZODB.MappingStorage import MappingStorage

import zc.zrs.nagios
from programs import running
from replicas.waiting import wait_until
from zc.zrs import monitor
from zc.zrs.system.address import show_address
from zc.zrs.system.severity import OK
from zc.zrs.zeo_lag.comparison import Finding, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT = 60
NO_HOST = "zeo..example.com:8200"


@pytest.fixture
def server() -> Iterator[str]:
    """Serve an empty storage to ZEO clients."""
    server = StorageServer(("127.0.0.1", 0), {"1": MappingStorage()})
    server.start_thread()
    with contextlib.closing(server):
        yield show_address(server.acceptor.addr)


def test_an_unknown_host(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert zc.zrs.nagios.main(["-w", "5", server, NO_HOST]) == 2
    expected = (
        f"Can't connect to secondary at {NO_HOST!r}: 'zeo..example.com' is not a host name\n"
    )
    assert capsys.readouterr() == (expected, "")


@pytest.mark.parametrize(
    ("addr", "reason"),
    [
        ("127.0.0.1:99999", "port 99999 is not between 0 and 65535"),
        ("::1:28303", "write an IPv6 address in brackets, as [::1]:8100"),
    ],
)
def test_invalid_ports_and_missing_brackets(
    server: str, capsys: pytest.CaptureFixture[str], addr: str, reason: str
) -> None:
    assert zc.zrs.nagios.main(["-w", "5", server, addr]) == 2
    expected = f"Can't connect to secondary at {addr!r}: {addr!r}: {reason}\n"
    assert capsys.readouterr() == (expected, "")


def test_a_socket_in_this_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("a:b")
        assert zc.zrs.nagios.main(["-w", "5", "a:b", "a:b"]) == 2
    output = capsys.readouterr().out
    assert output.startswith("Can't connect to secondary at 'a:b': [Errno ")
    assert output.endswith("Connection refused\n")


def test_the_other_servers_are_checked(server: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zc.zrs.last_transaction", NO_HOST, server],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 1
    assert done.stdout == f"{server} 1: no transactions\n"
    assert done.stderr == (
        f"last-zeo-transaction: {NO_HOST}: 'zeo..example.com' is not a host name\n"
    )


def test_the_monitor_continues(server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zc.zrs.monitor", "-i", "0.05", server, NO_HOST]
    with running(command, tmp_path / "log") as process:
        wait_until(lambda: process.log.count(" ERROR Can't connect to secondary at") > 1)
        assert process.end() == 0
        assert "Traceback" not in process.log


def test_the_monitor_continues_after_an_unexpected_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[int] = []

    def compare(*_: object) -> list[Finding]:
        looks.append(1)
        if len(looks) == 1:
            raise RuntimeError("an unexpected error")
        return [Finding(OK, "all is well again")]

    monkeypatch.setattr(monitor, "compare_servers", compare)
    watching = monitor.Monitor("one:1", "two:2", Limits(), interval=0.01, timeout=1)
    with caplog.at_level(logging.INFO):
        watching.start()
        wait_until(lambda: "all is well again" in caplog.messages)
        watching.stop()
    assert caplog.messages[0] == "cannot compare one:1 and two:2"
    assert "an unexpected error" in caplog.text
