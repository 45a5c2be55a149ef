"""The meaning of an address without a host in commands, sections and Python."""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from commands.test_command import Service
from programs import free_port
from sections.test_config import load
from zc.zrs.status.server import StatusServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_HOST = "the status address has no host, so only this machine can connect to 127.0.0.1"


@pytest.fixture
def started() -> Iterator[list[Service]]:
    """Provide a list of services, which are killed after the test."""
    services: list[Service] = []
    yield services
    for service in services:
        service.kill()


def lines(service: Service, count: int) -> list[str]:
    """Return the first lines that a service prints."""
    return [service.lines.get(timeout=60) for _ in range(count)]


def can_connect(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=10):
        return True
    return False


def test_commands(started: list[Service], tmp_path: Path) -> None:
    options = ("--listen", ":0", "--zeo", ":0", "--status", ":0")
    service = Service("primary", tmp_path / "Data.fs", *options)
    started.append(service)
    replication, status, zeo = lines(service, 3)
    assert replication.startswith("replication on 0.0.0.0:")
    assert zeo.startswith("zeo on 0.0.0.0:")
    # The port has no password.
    assert status.startswith("status on http://127.0.0.1:")
    code, errors = service.end(signal.SIGTERM)
    assert code == 0
    assert NO_HOST in errors


def test_brackets_mean_both_kinds_of_addresses(started: list[Service], tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6() or not can_listen_at_ipv6():
        pytest.skip("this machine has no IPv6")
    options = ("--listen", "[::]:0", "--zeo", f"[::]:{free_port()}", "--status", "[::]:0")
    service = Service("primary", tmp_path / "Data.fs", *options)
    started.append(service)
    for line in lines(service, 3):
        port = int(line.rstrip("/").rpartition(":")[2])
        assert can_connect("127.0.0.1", port), line
        assert can_connect("::1", port), line
    code, errors = service.end(signal.SIGTERM)
    assert code == 0
    assert NO_HOST not in errors


def can_listen_at_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize("given", ["0", ":0"])
def test_sections(tmp_path: Path, caplog: pytest.LogCaptureFixture, given: str) -> None:
    text = (
        f"<primary>\naddress {given}\nfilestorage-path {tmp_path}/Data.fs\n"
        f"status-address {given}\n</primary>"
    )
    with contextlib.closing(load(text).open()) as storage:
        assert storage.address[0] == "0.0.0.0"  # noqa: S104
        assert storage.status_address[0] == "127.0.0.1"
    assert NO_HOST in caplog.text


def test_an_address_with_a_host_logs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    for host in "127.0.0.1", "localhost", "0.0.0.0":  # noqa: S104
        StatusServer((host, 0)).close()
    assert NO_HOST not in caplog.text
    StatusServer(("", 0)).close()
    assert NO_HOST in caplog.text
