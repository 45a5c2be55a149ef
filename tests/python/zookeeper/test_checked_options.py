"""Errors for wrong connection strings, paths, ports and timeouts, however they are given."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import kazoo.exceptions
import pytest
import ZConfig
import ZODB.config
import zodburi
from ZODB.FileStorage import FileStorage

import zc.zk
import zc.zkzeo
import zc.zkzeo.nagios
import zc.zkzeo.runzeo
import zc.zrs.zk
from replicas.waiting import DEADLINE, wait_until
from zookeeper.zeo import PATH, configuration, zkrunzeo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zookeeper.servers import ZooKeeperServer

NOBODY = "127.0.0.1:1"

PLACES = [
    ("127.0.0.1:x", "/path", "connection"),
    ("127.0.0.1:0", "/path", "connection"),
    ("127.0.0.1:99999", "/path", "connection"),
    (f"{NOBODY}/a//b", "/path", "connection"),
    (NOBODY, "a/path", "path"),
    (NOBODY, "/pa\x01th", "path"),
]


@pytest.mark.parametrize(("connection", "path", "wrong"), PLACES)
@pytest.mark.parametrize(
    ("section", "option"),
    [
        ("primary", "replicate-to"),
        ("secondary", "replicate-from"),
        ("zrs", "replicate-to"),
        ("zrs", "replicate-from"),
    ],
)
def test_sections_of_replication(
    section: str, option: str, connection: str, path: str, wrong: str
) -> None:
    with pytest.raises(ZConfig.ConfigurationError) as raised:
        ZODB.config.storageFromString(
            f"%import zc.zrs\n<{section}>\nzookeeper {connection}\n{option} {path}\n"
            f"filestorage-path Data.fs\n</{section}>"
        )
    name = {"connection": "zookeeper", "path": option}[wrong]
    assert f"<{section}> has an invalid {name}: " in str(raised.value)


def test_the_other_ensemble_of_a_section() -> None:
    with pytest.raises(ZConfig.ConfigurationError, match=r"replicate-from-zookeeper: 'h:x'"):
        ZODB.config.storageFromString(
            f"%import zc.zrs\n<zrs>\nzookeeper {NOBODY}\nreplicate-to /a\n"
            "replicate-from-zookeeper h:x\nreplicate-from /b\nfilestorage-path d\n</zrs>"
        )


@pytest.mark.parametrize(("connection", "path", "wrong"), PLACES)
def test_the_section_of_clients(connection: str, path: str, wrong: str) -> None:
    name = {"connection": "zookeeper", "path": "server"}[wrong]
    with pytest.raises(ZConfig.DataConversionError, match=rf"{name}: '"):
        ZODB.config.storageFromString(
            f"%import zc.zkzeo\n<zkzeoclient>\nzookeeper {connection}\nserver {path}\n"
            "</zkzeoclient>"
        )


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "2147483648", "1.5", "9" * 5000])
def test_session_timeouts_as_text(timeout: str) -> None:
    with pytest.raises(ZConfig.DataConversionError, match="session-timeout: '") as raised:
        ZODB.config.storageFromString(
            f"%import zc.zkzeo\n<zkzeoclient>\nzookeeper {NOBODY}\nserver /path\n"
            f"session-timeout {timeout}\n</zkzeoclient>"
        )
    assert len(raised.value.message) < 400
    with pytest.raises(ValueError, match="session-timeout: '"):
        zodburi.resolve_uri(f"zkzeo://{NOBODY}/path?session_timeout={timeout}")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("zkzeo://127.0.0.1:x/path", "connection_string: '127.0.0.1:x'"),
        ("zkzeo://127.0.0.1:0/path", "connection_string: '127.0.0.1:0'"),
        (f"zkzeo://{NOBODY}/pa%01th", "path: '/pa"),
    ],
)
def test_uris(uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zodburi.resolve_uri(uri)


def primary(tmp_path: Path, *where: Any, **options: Any) -> object:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    try:
        return zc.zrs.zk.Primary(storage, ("127.0.0.1", 0), *where, **options)
    finally:
        storage.close()


def secondary(tmp_path: Path, *where: Any, **options: Any) -> object:
    storage = FileStorage(str(tmp_path / "Data.fs"))
    try:
        return zc.zrs.zk.Secondary(storage, *where, **options)
    finally:
        storage.close()


def client(tmp_path: Path, *where: Any, **options: Any) -> object:  # noqa: ARG001
    return zc.zkzeo.client(*where, **options)


CONSTRUCTORS = pytest.mark.parametrize("construct", [primary, secondary, client])


@CONSTRUCTORS
@pytest.mark.parametrize(("connection", "path", "wrong"), [*PLACES, (NOBODY, None, "path")])
def test_constructors(
    construct: Callable[..., Any], tmp_path: Path, connection: str, path: str, wrong: str
) -> None:
    name = {"connection": "connection_string", "path": "path"}[wrong]
    with pytest.raises(ValueError, match=f"^{name}: "):
        construct(tmp_path, connection, path)


TIMEOUTS = pytest.mark.parametrize("timeout", [0, -1, 3_000_000, math.nan, math.inf])


@CONSTRUCTORS
@TIMEOUTS
def test_session_timeouts(
    construct: Callable[..., Any], tmp_path: Path, timeout: float
) -> None:
    with pytest.raises(ValueError, match=r"^session_timeout: .* is not between"):
        construct(tmp_path, NOBODY, "/path", session_timeout=timeout)


@TIMEOUTS
def test_the_timeout_of_a_session(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"^session_timeout: .* is not between"):
        zc.zk.ZooKeeper(NOBODY, timeout, connect=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-Z", "127.0.0.1:x", "/path"], "--zookeeper: '127.0.0.1:x' is not"),
        (["-Z", NOBODY, "path"], "path: 'path' is not"),
    ],
)
def test_nagios(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        zc.zkzeo.nagios.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_function_of_nagios() -> None:
    status, (line,) = zc.zkzeo.nagios.check(NOBODY, "path")
    assert status == 2
    assert "path: 'path' is not an absolute path" in line


def test_paths_of_followers(zk: zc.zk.ZooKeeper) -> None:
    zk.create_recursive("/path")
    for path in "path", "", "/pa\0th", "/pa\ud800th":
        for follow in zk.children, zk.properties:
            with pytest.raises(ValueError, match=r"is not an? (absolute )?path in ZooKeeper"):
                follow(path)
        with pytest.raises(ValueError, match=r"is not an? (absolute )?path in ZooKeeper"):
            zk.children(path, wait=False)


def test_a_path_that_cannot_be_sent_does_not_end_the_session(zk: zc.zk.ZooKeeper) -> None:
    session = zk.session_id
    for call in zk.get_children, zk.create_recursive, zk.delete_recursive, zk.export_tree:
        with pytest.raises(ValueError, match="refuses the character"):
            call("/pa\ud800th")
    assert zk.connected
    assert zk.session_id == session


# --- a missing path in the connection string ----------------------------------------


@pytest.fixture
def missing(server: ZooKeeperServer) -> str:
    """Return a connection string with a missing path."""
    return f"{server.address}/missing"


def test_a_missing_chroot_is_named(
    missing: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    says = "/missing, the path in the connection string"
    zk = zc.zk.ZooKeeper(missing)
    for call in (
        zk.children,
        zk.properties,
        zk.get_children,
        zk.export_tree,
        lambda path: zk.register_server(path, ("127.0.0.1", 1)),
        lambda path: zc.zkzeo.client(missing, path),
    ):
        for path in "/", PATH:
            with pytest.raises(kazoo.exceptions.NoNodeError, match=says):
                call(path)
    zk.close()
    status, (line,) = zc.zkzeo.nagios.check(missing, PATH)
    assert status == 2
    assert says in line
    storage = FileStorage(str(tmp_path / "Secondary.fs"))
    secondary = zc.zrs.zk.Secondary(storage, missing, PATH)
    wait_until(lambda: says in caplog.text)
    secondary.close()


def test_zkrunzeo_names_a_missing_chroot(missing: str, tmp_path: Path) -> None:
    with zkrunzeo(configuration(missing, tmp_path / "Data.fs"), tmp_path) as program:
        wait_until(lambda: "/missing, the path in the connection string" in program.log)


@pytest.mark.parametrize(
    ("given", "instead", "message"),
    [
        ("MONITOR", "monitor-server 127.0.0.1:TAKEN", "monitor-server 127.0.0.1:TAKEN: "),
        ("MONITOR", "monitor-server 192.0.2.1:99", "monitor-server 192.0.2.1:99: "),
        ("address 127.0.0.1", "address 192.0.2.1:82", "cannot listen on 192.0.2.1:82: "),
        ("address 127.0.0.1", "address h.invalid:82", "cannot listen on h.invalid:82: "),
        ("MONITOR", f"certfile {__file__}", f"cannot connect to ZooKeeper: {__file__}"),
    ],
)
def test_zkrunzeo_reports_what_it_cannot_use(
    tmp_path: Path, given: str, instead: str, message: str
) -> None:
    config = configuration(NOBODY, tmp_path / "Data.fs", more="MONITOR")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = config.replace(given, instead).replace("MONITOR", "")
        port = str(taken.getsockname()[1])
        (tmp_path / "zeo.conf").write_text(text.replace("TAKEN", port))
        done = subprocess.run(
            [sys.executable, "-m", "zc.zkzeo.runzeo", "-C", tmp_path / "zeo.conf"],
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    assert done.returncode == 2
    assert f"Error: {message.replace('TAKEN', port)}" in done.stderr
    assert "Traceback" not in done.stderr
