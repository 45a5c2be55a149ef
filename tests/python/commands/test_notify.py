"""Notifications to systemd from `zrs primary` and `zrs secondary`, on a real socket."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from programs import ZRS, Program, free_port
from replicas.transactions import commit
from replicas.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replicas.opening import Opener

CHECKOUT = Path(__file__).parents[3]
LOOPBACK = "127.0.0.1:0"


class ServiceManager:
    """Stands in for systemd: the socket that a service notifies."""

    def __init__(self, addr: str) -> None:
        self.addr = addr
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE)
        self.socket.bind("\0" + addr[1:] if addr.startswith("@") else addr)
        self.heard: list[str] = []
        self._read = 0

    def wait_for(self, beginning: str) -> str:
        """Return the rest of the next line with this prefix."""
        while True:
            while self._read < len(self.heard):
                line = self.heard[self._read]
                self._read += 1
                if line.startswith(beginning):
                    return line.removeprefix(beginning)
            self.heard += self.socket.recv(4096).decode().splitlines()


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServiceManager]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has sockets without a path")
    name = f"@zrs-test-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/notify"
    manager = ServiceManager(name)
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with manager.socket:
        yield manager


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: object) -> Program:
            program = Program([*ZRS, *arguments], tmp_path / "log")
            stack.callback(program.end, signal.SIGKILL)
            return program

        yield start


def test_a_primary_is_ready_when_it_listens(
    manager: ServiceManager, tmp_path: Path, start: Callable[..., Program]
) -> None:
    process = start("primary", tmp_path / "p.fs", "--listen", LOOPBACK)
    addr = process.wait_for("replication on")
    manager.wait_for("READY=1")
    status = manager.wait_for("STATUS=")
    assert status == f"listening; 0 connected, 0 following; at 0x{'0' * 16}"
    start("secondary", tmp_path / "s.fs", "--from", addr)
    while "1 connected" not in manager.wait_for("STATUS=listening; "):
        pass
    assert process.end() == 0
    manager.wait_for("STOPPING=1")
    assert process.log == ""


def test_a_secondary_is_ready_when_it_has_caught_up(
    manager: ServiceManager, opener: Opener, tmp_path: Path, start: Callable[..., Program]
) -> None:
    port = free_port()
    process = start(
        "secondary", tmp_path / "s.fs", "--from", f"127.0.0.1:{port}",
        "--reconnect-delay", "0.2", "--log-level", "critical",
    )  # fmt: skip
    process.wait_for("replicating from")
    # Without a primary it is not ready, and reports why.
    assert "refused" in manager.wait_for("STATUS=waiting; ")
    assert "READY=1" not in manager.heard
    primary = opener.primary(addr=("127.0.0.1", port))
    tid = commit(primary, {0: b"data"})
    manager.wait_for("READY=1")
    while f"0x{tid.hex()}" not in manager.wait_for("STATUS=following; at "):
        pass
    assert manager.heard.count("READY=1") == 1
    assert process.end() == 0
    manager.wait_for("STOPPING=1")
    assert manager.heard.count("READY=1") == 1


def test_without_a_socket_nothing_is_sent(
    tmp_path: Path, start: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    process = start("primary", tmp_path / "p.fs", "--listen", LOOPBACK, "--log-level", "debug")
    process.wait_for("replication on")
    assert process.end() == 0
    assert "zc.zrs.notify" not in process.log


def test_a_missing_socket_does_no_harm(
    opener: Opener,
    tmp_path: Path,
    start: Callable[..., Program],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    process = start("primary", tmp_path / "p.fs", "--listen", LOOPBACK)
    secondary = opener.secondary(_address(process.wait_for("replication on")))
    assert secondary.status()["state"] != "stopped"
    assert process.end() == 0
    assert process.log == ""


def _address(text: str) -> tuple[str, int]:
    host, port = text.split(":")
    return host, int(port)


UNITS = sorted((CHECKOUT / "examples/systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_units_are_valid(unit: Path, tmp_path: Path) -> None:
    """The units get the command's path and the users of this machine."""
    verify = "/usr/bin/systemd-analyze"
    if not Path(verify).exists():
        pytest.skip("systemd-analyze is not installed")
    text = unit.read_text().replace("/opt/zrs/bin/zrs", "/bin/true")
    (tmp_path / unit.name).write_text(text)
    result = subprocess.run(
        [verify, "verify", "--man=no", tmp_path / unit.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert [line for line in result.stderr.splitlines() if unit.name in line] == []


def test_each_side_has_a_unit() -> None:
    assert [unit.name for unit in UNITS] == ["zrs-primary.service", "zrs-secondary.service"]
