"""The command ``zrs``: real processes and their output."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from ZEO.ClientStorage import ClientStorage

from certificates.making import Authority, encrypted
from zc.zrs.system.address import parse_address, show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND = [sys.executable, "-m", "zc.zrs.command"]
TIMEOUT = 20
LOOPBACK = "127.0.0.1:0"


def wait_for(condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.005)


class Service:
    """A running ``zrs`` process."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def line(self, beginning: str) -> Any:
        """Return the address at the end of the next line."""
        line = self.lines.get(timeout=TIMEOUT)
        assert line.startswith(beginning)
        return parse_address(line.removeprefix(beginning).strip())

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit status and the log."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        return self.process.wait(TIMEOUT), errors

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in self.process.stdout, self.process.stderr:
            assert stream is not None
            stream.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str | Path) -> Service:
            service = Service(*arguments)
            stack.callback(service.kill)
            return service

        yield start


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_primary_and_a_secondary_that_zeo_clients_use(
    tmp_path: Path, start: Callable[..., Service], number: int
) -> None:
    primary = start("primary", tmp_path / "a.fs", "--listen", LOOPBACK, "--zeo", LOOPBACK)
    replication = primary.line("replication on")
    primary_zeo = primary.line("zeo on")
    secondary = start(
        "secondary", tmp_path / "b.fs", "--from", show_address(replication), "--zeo", LOOPBACK,
        "--keep-alive-delay", "0.2", "--reconnect-delay", "0.2",
    )  # fmt: skip
    assert secondary.line("replicating from") == replication
    secondary_zeo = secondary.line("zeo on")

    db = ZODB.DB(ClientStorage(primary_zeo, wait_timeout=TIMEOUT))
    with db.transaction() as connection:
        connection.root()["x"] = 1
    reader = ClientStorage(secondary_zeo, read_only=True, wait_timeout=TIMEOUT)
    wait_for(lambda: reader.lastTransaction() == db.lastTransaction())
    reading = ZODB.DB(reader)
    assert reading.open(transaction.TransactionManager()).root()["x"] == 1
    reading.close()
    db.close()

    assert secondary.end(number) == (0, "")
    assert primary.end(number) == (0, "")
    assert (tmp_path / "a.fs").read_bytes() == (tmp_path / "b.fs").read_bytes()


def test_unix_sockets(tmp_path: Path, start: Callable[..., Service]) -> None:
    path = f"{tmp_path}/socket"
    primary = start("primary", tmp_path / "a.fs", "--listen", path)
    assert primary.line("replication on") == path
    secondary = start("secondary", tmp_path / "b.fs", "--from", path)
    assert secondary.line("replicating from") == path
    assert secondary.end(signal.SIGTERM) == (0, "")
    assert primary.end(signal.SIGTERM) == (0, "")


def test_the_log_level(tmp_path: Path, start: Callable[..., Service]) -> None:
    primary = start("primary", tmp_path / "a.fs", "--listen", LOOPBACK, "--log-level", "info")
    host, port = primary.line("replication on")
    socket.create_connection((host, port), TIMEOUT).close()
    status, log = primary.end(signal.SIGTERM)
    assert status == 0
    assert f"INFO zc.zrs.primary Opening {tmp_path}/a.fs" in log
    assert f"INFO zc.zrs.primary Closing {tmp_path}/a.fs" in log


# --- Errors -------------------------------------------------------------------------------


def failure(*arguments: str | Path) -> str:
    """Return the single sentence that a failing command prints."""
    result = run(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("zrs: ")
    return line


def test_a_locked_database(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    storage = ZODB.FileStorage.FileStorage(str(path))
    for name, option in ("primary", "--listen"), ("secondary", "--from"):
        assert (
            failure(name, path, option, "127.0.0.1:1")
            == f"zrs: cannot open {path}: it is locked by another process"
        )
    storage.close()


def test_a_missing_directory(tmp_path: Path) -> None:
    path = tmp_path / "no" / "Data.fs"
    line = failure("primary", path, "--listen", LOOPBACK)
    assert line == f"zrs: cannot open {path}: directory {tmp_path / 'no'} does not exist"


def certificates(authority: Authority) -> list[str | Path]:
    """Return a command's options for a certificate of an authority, and for trusting it."""
    certificate, key = authority.issue()
    secret = encrypted(key, b"secret")
    return [
        *("--ssl-certificate", certificate, "--ssl-key", secret),
        *("--ssl-authenticate", authority.path),
        *("--ssl-password-function", "certificates.making.password"),
    ]


def test_an_encrypted_pair(
    tmp_path: Path, start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    authority = Authority(tmp_path, "ours")
    options = certificates(authority)
    primary = start(
        "primary", tmp_path / "a.fs", "--listen", LOOPBACK, *options, "--zeo", LOOPBACK
    )
    addr = show_address(primary.line("replication on"))
    primary_zeo = primary.line("zeo on")
    others = ["--reconnect-delay", "0.1", "--zeo", LOOPBACK]
    secondary = start("secondary", tmp_path / "b.fs", "--from", addr, *options, *others)
    secondary.line("replicating from")
    secondary_zeo = secondary.line("zeo on")
    with contextlib.closing(ZODB.DB(ClientStorage(primary_zeo))) as db:
        with db.transaction() as connection:
            connection.root.answer = 42
        tid = db.storage.lastTransaction()
    with contextlib.closing(ClientStorage(secondary_zeo, read_only=True)) as copy:
        wait_for(lambda: copy.lastTransaction() == tid)


def test_who_may_connect_to_a_primary(tmp_path: Path, start: Callable[..., Service]) -> None:
    limits = ["--allow", "10.0.0.0/8", "--allow", "::1", "--handshake-deadline", "5s"]
    primary = start("primary", tmp_path / "a.fs", "--listen", LOOPBACK, *limits)
    with socket.create_connection(primary.line("replication on"), TIMEOUT) as client:
        assert client.recv(1) == b""
    _, errors = primary.end(signal.SIGTERM)
    assert "connection refused: address not in the allow list" in errors


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path, "ours").issue()
    options: list[str | Path] = ["--ssl-certificate", certificate]
    options += ["--ssl-authenticate", certificate]
    line = failure("primary", tmp_path / "Data.fs", "--listen", LOOPBACK, *options)
    assert line.startswith(f"zrs: cannot listen on {LOOPBACK}: ssl: there is no private key")
    assert str(certificate) in line


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["primary", "--listen"], ["--ssl-key", __file__]),
        (["primary", "--listen"], ["--ssl-password-function", "os.getcwd"]),
        (["secondary", "--from"], ["--ssl-key", __file__]),
        (["secondary", "--from"], ["--ssl-server-hostname", "primary.example.com"]),
        (["secondary", "--from"], ["--no-ssl-check-hostname"]),
        (["bootstrap", "--from"], ["--ssl-key", __file__]),
    ],
)
def test_certificate_options_without_a_certificate(
    command: list[str], option: list[str], tmp_path: Path
) -> None:
    """It used to run without encryption."""
    name, where = command
    line = failure(name, tmp_path / "Data.fs", where, "127.0.0.1:1", *option)
    assert line == f"zrs: {option[0]} requires --ssl-certificate or --ssl-authenticate"


def test_a_directory_in_place_of_a_database(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    path.mkdir()
    line = failure("primary", path, "--listen", LOOPBACK)
    assert line == f"zrs: cannot open {path}: {os.strerror(21)}"


def test_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    path.write_bytes(b"something else altogether")
    line = failure("secondary", path, "--from", "127.0.0.1:1")
    assert line.startswith(f"zrs: cannot open {path}: FileStorageFormatError")
    assert path.read_bytes() == b"something else altogether"


@pytest.mark.parametrize("option", ["--listen", "--zeo"])
def test_a_port_in_use(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = show_address(taken.getsockname())
        options = {"--listen": LOOPBACK, option: addr}
        line = failure("primary", tmp_path / "Data.fs", *sum(options.items(), ()))
    purpose = {"--listen": "listen on", "--zeo": "serve ZEO on"}[option]
    assert line == f"zrs: cannot {purpose} {addr}: Address already in use"
    # It was closed.
    ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs")).close()


def test_a_host_that_does_not_exist(tmp_path: Path) -> None:
    line = failure("primary", tmp_path / "Data.fs", "--listen", "nowhere.invalid:8100")
    assert line.startswith("zrs: cannot listen on nowhere.invalid:8100: ")


def test_a_missing_zeo(tmp_path: Path) -> None:
    # This module shadows the real one, and fails as if it were missing.
    blocker = tmp_path / "path"
    blocker.mkdir()
    (blocker / "ZEO.py").write_text("raise ModuleNotFoundError(\"No module named 'ZEO'\")")
    result = subprocess.run(
        [*COMMAND, "primary", tmp_path / "Data.fs", "--listen", LOOPBACK, "--zeo", LOOPBACK],
        env={**os.environ, "PYTHONPATH": str(blocker)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert result.returncode == 1
    assert (
        result.stderr
        == "zrs: --zeo requires ZEO: pip install 'zrs[zeo]' (No module named 'ZEO')\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["primary"],
        ["primary", "Data.fs"],
        ["primary", "Data.fs", "--listen", "here"],
        ["primary", "Data.fs", "--listen", "here:there"],
        ["primary", "Data.fs", "--listen", "::1:8100"],
        ["primary", "Data.fs", "--listen", "here:65536"],
        ["primary", "Data.fs", "--listen", ":1", "--allow", "localhost"],
        ["primary", "Data.fs", "--listen", ":1", "--max-connections", "-1"],
        ["primary", "Data.fs", "--listen", ":1", "--handshake-deadline", "0"],
        ["primary", "Data.fs", "--listen", ":1", "--ssl-certificate", "/no/where"],
        ["primary", "Data.fs", "--listen", ":1", "--ssl-password-function", "nothing"],
        ["secondary", "Data.fs"],
        ["secondary", "Data.fs", "--from", ":1", "--reconnect-delay", "-1"],
        ["secondary", "Data.fs", "--from", ":1", "--keep-alive-delay", "nan"],
        ["secondary", "Data.fs", "--from", ":1", "--log-level", "loud"],
    ],
)
def test_a_wrong_command_line(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: zrs")
    assert "error: " in result.stderr


@pytest.mark.parametrize(
    ("text", "addr"),
    [
        ("localhost:8100", ("localhost", 8100)),
        (":8100", ("", 8100)),
        ("[::1]:8100", ("::1", 8100)),
        ("./socket", "./socket"),
    ],
)
def test_addresses_are_shown_as_they_are_read(text: str, addr: Any) -> None:
    assert parse_address(text) == addr
    assert show_address(addr) == text


def test_a_port_without_a_host_is_an_address() -> None:
    assert parse_address("8100") == ("", 8100)
    with pytest.raises(ValueError, match="'localhost' is not HOST:PORT, PORT"):
        parse_address("localhost")


def test_the_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (
        0,
        f"zrs {importlib.metadata.version('zrs')}\n",
    )


# --- The demo ---------------------------------------------------------------------------


def test_the_demo(tmp_path: Path) -> None:
    result = subprocess.run(
        [*COMMAND, "demo", "--directory", tmp_path, "--keep"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    for verified in "same last transaction", "byte-identical", "application data equal":
        assert verified in result.stdout
    (place,) = tmp_path.iterdir()
    files = [(place / name).read_bytes() for name in ("primary.fs", "secondary.fs")]
    assert files[0] == files[1]
    assert len(files[0]) > 1_000_000
    shutil.rmtree(place)


def test_the_demo_fails_when_a_check_does(tmp_path: Path) -> None:
    from zc.zrs.demo import database, processes, story  # noqa: PLC0415

    paths = (tmp_path / "primary.fs", tmp_path / "secondary.fs")
    database.build(paths[0], 12, lambda _: None)
    tids = database.transaction_ids(paths[0])
    shutil.copy(*paths)
    story._verify(*paths, tids)
    original = paths[1].read_bytes()
    paths[1].write_bytes(original.replace(b"vault", b"fault", 1))
    with pytest.raises(processes.DemoFailed, match="differ"):
        story._verify(*paths, tids)
    paths[1].write_bytes(original[: len(original) // 2])
    with pytest.raises(processes.DemoFailed, match="last transactions differ"):
        story._verify(*paths, tids)
