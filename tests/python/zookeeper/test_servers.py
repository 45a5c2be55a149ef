"""ZEO servers that register in ZooKeeper."""

from __future__ import annotations

import importlib.metadata
import logging
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

import zc.zk
import zc.zkzeo
import zc.zkzeo.runzeo
from programs import free_port
from replicas.waiting import wait_until
from zookeeper.servers import plain_client, slow
from zookeeper.zeo import PATH, configuration, wait_registered, zkrunzeo

if TYPE_CHECKING:
    from pathlib import Path

    from zc.zk import ZooKeeper


@pytest.fixture(autouse=True)
def _tree(zk: ZooKeeper) -> None:
    zk.create_recursive(PATH)


def ask(address: str, *lines: str) -> str:
    """Send lines to a command server; return its whole answer."""
    with socket.create_connection(zc.zk.parse_addr(address), timeout=60) as connection:
        connection.sendall("".join(f"{line}\n" for line in lines).encode())
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=slow),
        pytest.param(signal.SIGHUP, marks=slow),
    ],
)
def test_a_signal_ends_the_registration_first(
    zk: ZooKeeper, hosts: str, tmp_path: Path, number: signal.Signals
) -> None:
    with zkrunzeo(configuration(hosts, tmp_path / "Data.fs"), tmp_path) as program:
        (name,) = wait_registered(zk)
        assert zk.get_properties(f"{PATH}/{name}") == {"pid": program.pid}
        storage = zc.zkzeo.client(hosts, PATH)
        assert program.end(number) == (1 if number == signal.SIGHUP else 0)
        assert zk.get_children(PATH) == []
        storage.close()


class Midst(logging.Handler):
    """Emulates a stream during a write that a signal interrupts."""

    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread

    def emit(self, record: logging.LogRecord) -> None:
        """Raise, because the interrupted thread is already writing."""
        if record.thread == self._thread:
            raise RuntimeError("reentrant call")


@pytest.mark.parametrize("name", ["sigterm", "sigint", "sighup"])
def test_a_signal_during_a_log_message(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    server = zc.zkzeo.runzeo.Server(None)
    server.server = object()
    ended = threading.Event()
    monkeypatch.setattr(server, "shut_down", ended.set)
    zeo_logger = logging.getLogger("ZEO.runzeo")
    monkeypatch.setattr(zeo_logger, "level", logging.INFO)
    monkeypatch.setattr(zeo_logger, "handlers", [Midst(threading.get_ident())])
    getattr(server, f"handle_{name}")()
    assert ended.wait(60)


def test_a_killed_server_is_forgotten(zk: ZooKeeper, hosts: str, tmp_path: Path) -> None:
    with zkrunzeo(configuration(hosts, tmp_path / "Data.fs"), tmp_path) as program:
        wait_registered(zk)
        program.end(signal.SIGKILL)
    wait_registered(zk, 0)


def test_a_fixed_port_and_a_host_name(zk: ZooKeeper, hosts: str, tmp_path: Path) -> None:
    port = free_port()
    config = configuration(hosts, tmp_path / "Data.fs", f"localhost:{port}")
    stop = zc.zkzeo.runzeo.test(config)
    assert zk.get_children(PATH) == [f"localhost:{port}"]
    assert stop().exception is None
    assert stop().exception is None
    assert zk.get_children(PATH) == []


def test_all_interfaces_are_registered_by_name(
    zk: ZooKeeper, hosts: str, tmp_path: Path
) -> None:
    stop = zc.zkzeo.runzeo.test(configuration(hosts, tmp_path / "Data.fs", "0.0.0.0"))  # noqa: S104
    (name,) = zk.get_children(PATH)
    assert zc.zk.parse_addr(name)[0] == socket.getfqdn()
    stop()


def test_another_address_is_registered(zk: ZooKeeper, hosts: str, tmp_path: Path) -> None:
    for number, (text, port) in enumerate([("db.example.com:9", 9), ("[2001:db8::1]:9", 9)]):
        more = f"register-as {text}"
        config = configuration(hosts, tmp_path / f"{number}.fs", "0.0.0.0", more=more)  # noqa: S104
        stop = zc.zkzeo.runzeo.test(config)
        (name,) = zk.get_children(PATH)
        assert name == text
        assert zc.zk.parse_addr(name)[1] == port
        stop()


@pytest.mark.parametrize("text", ["0.0.0.0:8100", ":8100", "db.example.com:0"])
def test_an_address_that_nobody_can_connect_to_is_not_registered(
    hosts: str, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(hosts, tmp_path / "Data.fs", more=f"register-as {text}")
    with pytest.raises(SystemExit):
        zc.zkzeo.runzeo.test(config)
    assert f"register-as: {text!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("connection", "path", "message"),
    [
        ("127.0.0.1:x", PATH, "connection: '127.0.0.1:x' is not"),
        ("127.0.0.1:99999", PATH, "connection: '127.0.0.1:99999' is not"),
        ("127.0.0.1:0", PATH, "connection: '127.0.0.1:0' is not"),
        ("127.0.0.1:1,", PATH, "connection: '127.0.0.1:1,' is not"),
        ("127.0.0.1:1/a//b", PATH, "'/a//b' is not a path"),
        ("127.0.0.1:1", "", "path: '' is not an absolute path"),
        ("127.0.0.1:1", "servers", "path: 'servers' is not an absolute path"),
    ],
)
def test_wrong_connection_strings_and_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], connection: str, path: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        zc.zkzeo.runzeo.test(configuration(connection, tmp_path / "Data.fs", path=path))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "127.0.0.1:x", "127.0.0.1:" + "9" * 1000])
def test_a_session_refuses_a_wrong_connection_string(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT") as raised:
        zc.zk.ZooKeeper(text)
    assert len(str(raised.value)) < 400


def test_a_server_without_zookeeper(tmp_path: Path) -> None:
    config = (
        f"<zeo>\naddress 127.0.0.1\n</zeo>\n<filestorage>\npath {tmp_path}/d\n</filestorage>"
    )
    stop = zc.zkzeo.runzeo.test(config)
    assert stop().exception is None


def test_errors_that_prevent_a_server_from_running_are_raised(
    zk: ZooKeeper, hosts: str, tmp_path: Path
) -> None:
    config = configuration(hosts, tmp_path / "Data.fs")
    with pytest.raises(RuntimeError, match="/nowhere/127"):
        zc.zkzeo.runzeo.test(config.replace(f"path {PATH}", "path /nowhere"))
    with pytest.raises(SystemExit):
        zc.zkzeo.runzeo.test(config.replace("address 127.0.0.1", f"address {tmp_path}/socket"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        fixed = config.replace("address 127.0.0.1", f"address 127.0.0.1:{port}")
        with pytest.raises(SystemExit):
            zc.zkzeo.runzeo.test(fixed)
    assert zk.get_children(PATH) == []
    # The storage is not locked any more.
    zc.zkzeo.runzeo.test(config)()


def test_a_path_that_is_created_later(zk: ZooKeeper, hosts: str, tmp_path: Path) -> None:
    config = configuration(hosts, tmp_path / "Data.fs", path="/later")
    with zkrunzeo(config, tmp_path) as program:
        wait_until(lambda: "its parent does not exist" in program.log)
        zk.create_recursive("/later")
        wait_registered(zk, path="/later")


def test_the_monitor_server(zk: ZooKeeper, hosts: str, tmp_path: Path) -> None:
    config = configuration(hosts, tmp_path / "Data.fs", more="monitor-server 127.0.0.1")
    stop = zc.zkzeo.runzeo.test(config)
    (name,) = zk.get_children(PATH)
    monitor = zk.get_properties(f"{PATH}/{name}")["monitor"]
    assert monitor.startswith("127.0.0.1:")
    assert ask(monitor, "ruok") == "imok\n"
    assert '"last-transaction"' in ask(monitor, "stats")
    assert ask(monitor, "interactive", "ruok", "nonsense", "quit", "ruok") == (
        "imok\ninvalid command 'nonsense'; try help\nGoodbye.\n"
    )
    assert "ruok -- " in ask(monitor, "help")
    assert "ValueError" in ask(monitor, "'")
    assert ask(monitor, "x" * 10000) == "line too long\n"
    stop()
    with pytest.raises(ConnectionRefusedError):
        ask(monitor, "ruok")


def test_malformed_neighbours_do_not_matter(
    zk: ZooKeeper, hosts: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zc.zkzeo")
    zk.create_recursive(f"{PATH}/garbage", b"\xff{")
    stop = zc.zkzeo.runzeo.test(configuration(hosts, tmp_path / "Data.fs"))
    storage = zc.zkzeo.client(hosts, PATH)
    with plain_client(hosts) as client:
        client.create(f"{PATH}/1.2.3.4:port")
        wait_until(lambda: "port" in caplog.text)
        client.create(f"{PATH}/x")
        wait_until(lambda: "'x'" in caplog.text)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    where = f"<{hosts}{PATH}>"
    assert warnings == [
        f"{name!r} at {where} is not an address; ignored"
        for name in ("garbage", "1.2.3.4:port", "x")
    ]
    assert storage.is_connected()
    storage.close()
    stop()


@pytest.mark.parametrize("name", ["zkrunzeo", "zkzeo-nagios"])
def test_scripts(name: str) -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name=name)
    with pytest.raises(SystemExit) as ended:
        script.load()(["--help"])
    assert ended.value.code == 0
