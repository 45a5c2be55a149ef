"""Serving the status if a configuration or a command line enables it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import ZConfig

from commands.test_command import Service
from replicas.waiting import wait_until
from sections.test_config import load
from zc.zrs.status.server import StatusAddressError
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = "127.0.0.1:0"


def status(address: Any) -> dict[str, Any]:
    return read(f"http://{show_address(address)}/status")


def read(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
        return found


@pytest.mark.parametrize(
    ("section", "options", "role"),
    [
        ("primary", f"address {LOOPBACK}", "primary"),
        ("secondary", "address 127.0.0.1:1", "secondary"),
        ("zrs", f"replicate-to {LOOPBACK}", "primary"),
        ("zrs", f"replicate-to {LOOPBACK}\nreplicate-from 127.0.0.1:1", "secondary"),
    ],
)
def test_sections(tmp_path: Path, section: str, options: str, role: str) -> None:
    path = f"filestorage-path {tmp_path}/Data.fs"
    for host in "", "localhost:":
        lines = f"<{section}>\n{options}\n{path}\nstatus-address {host}0\n</{section}>"
        with contextlib.closing(load(lines).open()) as storage:
            assert storage.status_address[0] == "127.0.0.1"
            answer = status(storage.status_address)
            assert answer["role"] == role
            assert ("primary" in answer) == ("\n" in options)


def test_a_path_is_not_a_status_address(tmp_path: Path) -> None:
    lines = (
        f"<primary>\naddress {LOOPBACK}\nfilestorage-path {tmp_path}/Data.fs\n"
        "status-address /run/zrs\n</primary>"
    )
    with pytest.raises(ZConfig.ConfigurationError, match="status-address /run/zrs"):
        load(lines)


def test_commands(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        services: list[Service] = []
        urls: list[str] = []
        address = None
        for name, option in ("primary", "--listen"), ("secondary", "--from"):
            where = LOOPBACK if address is None else show_address(address)
            options = ["--status", LOOPBACK, "--storage-name", f"the {name}"]
            if name == "secondary":
                options += ["--node-name", "copy"]
            service = Service(name, tmp_path / f"{name}.fs", option, where, *options)
            stack.callback(service.kill)
            address = service.line("replication on" if address is None else "replicating from")
            line = service.lines.get(timeout=30)
            assert line.startswith("status on http://127.0.0.1:")
            url = line.removeprefix("status on ")
            found = read(f"{url}status")
            assert (found["role"], found["storage"]) == (name, f"the {name}")
            urls.append(f"{url}status")
            services.append(service)
        wait_until(lambda: [peer["name"] for peer in read(urls[0])["peers"]] == ["copy"])
        for service in services:
            assert service.end(signal.SIGTERM) == (0, "")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/run/zrs.sock", "the status requires HOST:PORT, not the path of a UNIX socket"),
        ("x..y:5", "'x..y' is not a host name"),
        ("*:28196", "for all interfaces, give 0.0.0.0 or [::] as the host"),
    ],
)
def test_an_invalid_address(tmp_path: Path, address: str, reason: str) -> None:
    path = str(tmp_path / "Data.fs")
    for command, option in ("primary", "--listen"), ("secondary", "--from"):
        done = subprocess.run(
            [
                sys.executable, "-m", "zc.zrs.command", command, path, option, LOOPBACK,
                "--status", address,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr == (
            f"zrs: cannot serve the status on {address} (--status): {reason}\n"
        )


@pytest.mark.parametrize("address", ["x..y:5", "*:28196"])
def test_an_invalid_address_in_a_configuration(tmp_path: Path, address: str) -> None:
    lines = (
        f"<primary>\naddress {LOOPBACK}\nfilestorage-path {tmp_path}/Data.fs\n"
        f"status-address {address}\n</primary>"
    )
    section = load(lines)
    for _ in range(2):  # nothing remains open
        with pytest.raises(StatusAddressError, match=rf"{re.escape(address)} \(status-address"):
            section.open()


def test_an_address_in_use_is_reported_by_the_command(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = show_address(other.getsockname())
        done = subprocess.run(
            [
                sys.executable, "-m", "zc.zrs.command", "primary", str(tmp_path / "Data.fs"),
                "--listen", LOOPBACK, "--status", taken,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"zrs: cannot serve the status on {taken} (--status): Address already in use\n"
    )
