"""``zrs-nagios``, ``zrsmonitor`` and ``last-zeo-transaction`` with real ZEO servers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ZEO.StorageServer import StorageServer
from ZODB.MappingStorage import MappingStorage
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import tid_repr

import zc.zrs.nagios
from programs import ZRS, free_port, running
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from replicas.opening import Opener

    Run: TypeAlias = Callable[..., tuple[int, str]]

LOOPBACK = ("127.0.0.1", 0)
SCRIPTS = Path(sysconfig.get_path("scripts"))
TIMEOUT = 60


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve named storages to ZEO clients; return the server's address."""
    with contextlib.ExitStack() as stack:

        def serve(**storages: Any) -> str:
            server = StorageServer(LOOPBACK, storages)
            server.start_thread()
            stack.callback(server.close)
            return show_address(server.acceptor.addr)

        yield serve


@pytest.fixture
def replicas(opener: Opener) -> tuple[Any, Any]:
    """Open a primary with a transaction, and a secondary that has it."""
    primary = opener.primary()
    secondary = opener.secondary(primary)
    commit(primary, {0: b"one"})
    wait_caught_up(primary, secondary)
    return primary, secondary


def fall_behind(primary: Any, secondary: Any) -> str:
    """Stall the secondary while the primary commits; return the lag in seconds."""
    secondary.setReplicationAddresses([])
    wait_until(lambda: not secondary.status()["connected"])
    commit(primary, {0: b"two"})
    times = [TimeStamp(each.lastTransaction()).timeTime() for each in (primary, secondary)]
    return f"{times[0] - times[1]:.4f}"


@pytest.fixture
def nagios(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str]:
        status = zc.zrs.nagios.main(arguments)
        output, errors = capsys.readouterr()
        assert not errors
        return status, output

    return run


def test_a_secondary_that_is_up_to_date(
    replicas: tuple[Any, Any], serve: Callable[..., str], nagios: Run
) -> None:
    primary, secondary = (serve(**{"1": storage}) for storage in replicas)
    assert nagios("-w", "0", primary, secondary) == (0, "Secondary up to date.\n")
    with_metric = (0, "Secondary up to date.|'lag'=0.0000seconds\n")
    assert nagios("-m", primary, secondary) == with_metric


def test_a_secondary_that_is_stalled(
    replicas: tuple[Any, Any], serve: Callable[..., str], nagios: Run
) -> None:
    servers = [serve(**{"1": storage}) for storage in replicas]
    lag = fall_behind(*replicas)
    behind, metric = f"Secondary behind primary by {lag} seconds", f"|'lag'={lag}seconds\n"
    assert nagios("-m", *servers) == (0, behind + metric)
    assert nagios("-w", "9", "-e", "99", *servers) == (0, f"{behind}\n")
    assert nagios("-w", "0", "-e", "99", *servers) == (1, f"{behind} > 0\n")
    assert nagios("-w", "0", "-e", ".0000001", *servers) == (2, f"{behind} > 1e-07\n")
    assert nagios("-e", "0", "-m", *servers) == (2, f"{behind} > 0{metric}")

    replicas[1].setReplicationAddress(replicas[0].address)
    wait_caught_up(*replicas)
    assert nagios("-w", "0", *servers) == (0, "Secondary up to date.\n")


def test_a_limit_that_is_just_reached(
    replicas: tuple[Any, Any], serve: Callable[..., str], nagios: Run
) -> None:
    servers = [serve(**{"1": storage}) for storage in replicas]
    fall_behind(*replicas)
    newest, oldest = (TimeStamp(each.lastTransaction()).timeTime() for each in replicas)
    assert nagios("-w", repr(newest - oldest), *servers)[0] == 0
    assert nagios("-w", repr(newest - oldest - 1e-6), *servers)[0] == 1


def test_a_secondary_that_is_ahead_has_another_history(
    replicas: tuple[Any, Any], serve: Callable[..., str], nagios: Run
) -> None:
    servers = [serve(**{"1": storage}) for storage in replicas]
    lag = fall_behind(*replicas)
    status, output = nagios("-m", *reversed(servers))
    assert status == 2
    assert output == f"Primary behind secondary by {lag} seconds|'lag'=-{lag}seconds\n"


def test_several_storages(
    replicas: tuple[Any, Any], serve: Callable[..., str], nagios: Run
) -> None:
    primary, secondary = replicas
    common, here, there = MappingStorage(), MappingStorage(), MappingStorage()
    servers = (
        serve(**{"1": primary, "common": common, "main": primary, "here": here}),
        serve(**{"1": secondary, "common": common, "main": secondary, "there": there}),
    )
    lag = fall_behind(primary, secondary)
    lines = (
        f"Secondary behind primary by {lag} seconds > 0",
        "Secondary ('common') up to date.",
        "Storage 'here' in primary, but not secondary",
        f"Secondary ('main') behind primary by {lag} seconds > 0",
        "Storage 'there' in secondary, but not primary",
    )
    assert nagios("-w0", *servers) == (2, "\n".join(lines) + "\n")
    metrics = f"| 'lagcommon'=0.0000seconds\n 'lagmain'={lag}seconds\n"
    first = f"{lines[0]}|'lag'={lag}seconds"
    assert nagios("-w0", "-m", *servers) == (2, "\n".join((first, *lines[1:])) + metrics)


def test_a_missing_storage_is_worse_than_a_warning(
    replicas: tuple[Any, Any], serve: Callable[..., str], nagios: Run
) -> None:
    servers = serve(**{"1": replicas[0], "x": replicas[0]}), serve(**{"1": replicas[1]})
    expected = "Secondary up to date.\nStorage 'x' in primary, but not secondary\n"
    assert nagios("-w0", *servers) == (2, expected)


@pytest.mark.parametrize("dead", ["primary", "secondary"])
def test_a_server_that_is_dead(
    replicas: tuple[Any, Any], serve: Callable[..., str], nagios: Run, dead: str
) -> None:
    servers = {"primary": serve(**{"1": replicas[0]}), "secondary": serve(**{"1": replicas[1]})}
    servers[dead] = f"127.0.0.1:{free_port()}"
    status, output = nagios("-m", servers["primary"], servers["secondary"])
    assert status == 2
    refused = f"[Errno {111 if sys.platform == 'linux' else 61}] Connection refused"
    assert output == f"Can't connect to {dead} at {servers[dead]!r}: {refused}\n"


def test_a_server_that_hangs(
    opener: Opener, tmp_path: Path, serve: Callable[..., str], nagios: Run
) -> None:
    primary = opener.primary()
    commit(primary, {0: b"one"})
    command = ["secondary", tmp_path / "s.fs", "--from", show_address(primary.address)]
    with running([*ZRS, *command, "--zeo", "127.0.0.1:0"], tmp_path / "log") as process:
        servers = serve(**{"1": primary}), process.wait_for("zeo on")
        wait_until(lambda: nagios("-w0", *servers)[1] == "Secondary up to date.\n")
        os.kill(process.pid, signal.SIGSTOP)
        status, output = nagios("-w0", "--timeout", "0.5", *servers)
        assert (status, output) == (
            2, f"Can't connect to secondary at {servers[1]!r}: timed out\n"
        )  # fmt: skip
        os.kill(process.pid, signal.SIGCONT)
        assert nagios("-w0", *servers) == (0, "Secondary up to date.\n")


@pytest.mark.parametrize("arguments", [[], ["--timeout", "5"]])
def test_without_an_option_the_usage_is_printed(nagios: Run, arguments: list[str]) -> None:
    status, output = nagios(*arguments, "127.0.0.1:1", "127.0.0.1:1")
    assert status == 2
    assert output.startswith("usage: zrs-nagios ")
    assert output.endswith("no threshold given: add -w, -e (-c) or -m\n")


@pytest.mark.parametrize("option", ["-c", "--critical"])
def test_critical_is_another_name_for_error(
    replicas: tuple[Any, Any], serve: Callable[..., str], nagios: Run, option: str
) -> None:
    primary, secondary = replicas
    fall_behind(primary, secondary)
    status, output = nagios(option, "0", serve(**{"1": primary}), serve(**{"1": secondary}))
    assert (status, output.rstrip().endswith("> 0")) == (2, True)


def answering(
    answers: list[bytes], order: list[str], name: str
) -> tuple[str, threading.Thread]:
    """Answer a single request with these messages."""
    listener = socket.create_server(LOOPBACK)
    addr = show_address(listener.getsockname())

    def answer() -> None:
        with listener:
            connection, _ = listener.accept()
        with connection:
            assert connection.recv(8, socket.MSG_WAITALL) == b"\0\0\0\4ruok"
            order.append(name)
            for message in answers:
                connection.sendall(len(message).to_bytes(4, "big") + message)

    thread = threading.Thread(target=answer)
    thread.start()
    return addr, thread


def status_of(tid: bytes) -> bytes:
    return json.dumps({"1": {"last-transaction": tid.hex()}}).encode()


def test_the_secondary_is_queried_first(nagios: Run) -> None:
    """Otherwise it would seem to be ahead after a commit in between."""
    order: list[str] = []
    answers = [b"Z5", status_of(b"\3\3\3\3\3\3\3\3")]
    primary, first = answering(answers, order, "primary")
    secondary, second = answering(answers, order, "secondary")
    assert nagios("-w0", primary, secondary) == (0, "Secondary up to date.\n")
    first.join()
    second.join()
    assert order == ["secondary", "primary"]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([], "the connection was closed after 0 of 4 bytes"),
        ([b"Z5"], "the connection was closed after 0 of 4 bytes"),
        ([b"Z5", b"no"], "b'no' is not a status of storages"),
        ([b"Z5", b"[" * 100_000], f"b'{'[' * 60}' is not a status of storages"),
        ([b"Z5", b'{"1": 1}'], "b'{\"1\": 1}' is not a status of storages"),
        ([b"Z5", b'{"1": {"last-transaction": 1}}'], "1 is not a transaction id (storage '1')"),
    ],
)
def test_servers_that_are_not_zeo_servers(
    nagios: Run, answers: list[bytes], reason: str
) -> None:
    addr, thread = answering(answers, [], "secondary")
    status, output = nagios("-w0", addr, addr)
    thread.join()
    assert (status, output) == (2, f"The secondary at {addr!r} is not a ZEO server: {reason}\n")


def test_a_server_without_storages_is_a_warning(nagios: Run) -> None:
    pair = [answering([b"Z5", b"{}"], [], "") for _ in range(2)]
    assert nagios("-m", *(addr for addr, _ in pair)) == (1, "No storages\n")
    for _, thread in pair:
        thread.join()


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPTS / name, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_the_commands_as_installed(
    replicas: tuple[Any, Any], serve: Callable[..., str]
) -> None:
    primary, secondary = replicas
    servers = serve(**{"1": primary}), serve(**{"1": secondary, "x": MappingStorage()})
    found = script("zrs-nagios", "-w0", *servers)
    assert found.returncode == 2
    assert found.stdout.splitlines()[0] == "Secondary up to date."

    missing = f"127.0.0.1:{free_port()}"
    last = script("last-zeo-transaction", servers[0], missing, servers[1])
    tid = primary.lastTransaction()
    time = TimeStamp(tid)
    line = f"1: {tid_repr(tid)} {str(time)[:19]}"
    assert last.returncode == 1
    lines = last.stdout.splitlines()
    assert lines[0].startswith(f"{servers[0]} {line}")
    assert lines[1].startswith(f"{servers[1]} {line}")
    assert lines[2:] == [f"{servers[1]} x: no transactions"]
    assert last.stderr.startswith(f"last-zeo-transaction: {missing}: [Errno ")

    last = script("last-zeo-transaction", "--json", servers[1])
    assert last.returncode == 0
    assert [json.loads(line) for line in last.stdout.splitlines()] == [
        {"address": servers[1], "storage": "1", "tid": tid_repr(tid), "time": time.timeTime()},
        {"address": servers[1], "storage": "x", "tid": None, "time": None},
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_monitor_logs_what_it_finds_until_a_signal_ends_it(
    replicas: tuple[Any, Any], serve: Callable[..., str], tmp_path: Path, number: int
) -> None:
    servers = [serve(**{"1": storage}) for storage in replicas]
    log, errors = tmp_path / "monitor.log", tmp_path / "errors"
    command = [SCRIPTS / "zrsmonitor", "-i", "0.05", "-w0", "--log-file", log, *servers]
    with running(command, errors) as process:
        good = " INFO Secondary up to date.\n"
        wait_until(lambda: log.exists() and log.read_text().count(good) > 2)
        lag = fall_behind(*replicas)
        behind = f" WARNING Secondary behind primary by {lag} seconds > 0\n"
        wait_until(lambda: log.read_text().count(behind) > 2)
        log.rename(tmp_path / "rotated.log")
        wait_until(lambda: log.exists() and log.read_text().count(behind) > 2)
        assert process.end(number) == 0
    assert errors.read_text() == ""


def test_the_end_of_the_monitor_does_not_wait_for_a_server(tmp_path: Path) -> None:
    with socket.create_server(LOOPBACK) as silent:
        addr = show_address(silent.getsockname())
        command = [SCRIPTS / "zrsmonitor", "-t", "600", addr, addr]
        with running(command, tmp_path / "log") as process:
            connection, _ = silent.accept()
            with connection:
                assert process.end() == 0
                assert process.log == ""


def test_the_monitor_survives_failing_servers(
    replicas: tuple[Any, Any], serve: Callable[..., str], tmp_path: Path
) -> None:
    port = free_port()
    servers = serve(**{"1": replicas[0]}), f"127.0.0.1:{port}"
    command = [SCRIPTS / "zrsmonitor", "-i", "0.05", *servers]
    with running(command, tmp_path / "log") as process:
        wait_until(lambda: " ERROR Can't connect to secondary at" in process.log)
        server = StorageServer(("127.0.0.1", port), {"1": replicas[1]})
        server.start_thread()
        with contextlib.closing(server):
            wait_until(lambda: " INFO Secondary up to date.\n" in process.log)
        assert process.end() == 0


def test_the_entry_point_of_zc_zrs_exists() -> None:
    assert zc.zrs.nagios.basic is zc.zrs.nagios.main
