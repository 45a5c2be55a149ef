"""If a file is at the path of a UNIX socket, it is not removed."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import zc.zrs.reactor
from programs import TIMEOUT, ZRS
from replicas.transactions import commit
from zc.zkzeo import server as zkzeo_server
from zc.zrs.primary import Primary
from zc.zrs.system.unix_socket import is_served, remove_stale

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener


def database(opener: Opener) -> Path:
    """Make a closed database; return its path."""
    path = opener.directory / "Data.fs"
    primary = opener.primary(str(path))
    commit(primary, {0: b"data"})
    primary.close()
    return path


def failing(*arguments: object) -> tuple[int, str]:
    """Run a command to its end; return its exit status and output."""
    command = [*ZRS, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["Data.fs", "link"])
def test_a_primary_does_not_remove_a_file_at_its_address(opener: Opener, name: str) -> None:
    path = database(opener)
    content = path.read_bytes()
    (opener.directory / "link").symlink_to(path)
    with pytest.raises(FileExistsError, match="not a socket") as caught:
        opener.primary(addr=str(opener.directory / name))
    assert caught.value.filename == repr(str(opener.directory / name))
    assert path.read_bytes() == content
    assert (opener.directory / "link").is_symlink()


def test_the_commands_refuse_a_file_as_an_address(opener: Opener) -> None:
    path = database(opener)
    content = path.read_bytes()
    # Arguments of `zrs primary` in the wrong order.
    status, said = failing("primary", opener.directory / "localhost:8100", "--listen", path)
    assert status == 1
    assert f"cannot listen on {path}: the path exists and is not a socket" in said
    assert path.read_bytes() == content


@pytest.mark.parametrize("driver", ["ours", "twisted"])
def test_at_its_end_a_primary_removes_only_its_own_socket(opener: Opener, driver: str) -> None:
    reactor = zc.zrs.reactor.reactor() if driver == "twisted" else None
    path = opener.directory / "socket"
    first = Primary(str(opener.path), str(path), reactor)
    path.unlink()
    path.write_bytes(b"precious")
    first.close()
    assert path.read_bytes() == b"precious"
    path.unlink()

    first = Primary(str(opener.path), str(path), reactor)
    path.unlink()
    second = opener.primary(str(opener.copy), str(path))
    first.close()
    tid = commit(second, {0: b"data"})
    assert opener.client(second).take(1)[0].tid == tid
    second.close()
    assert sorted(opener.directory.glob("socket*")) == []


def test_a_primary_with_a_relative_address_removes_its_socket(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    (opener.directory / "elsewhere").mkdir()
    monkeypatch.chdir(opener.directory)
    primary = opener.primary(addr="./socket")
    monkeypatch.chdir(opener.directory / "elsewhere")
    primary.close()
    assert not (opener.directory / "socket").exists()


def test_a_zeo_address_that_is_served_is_not_taken_over(opener: Opener) -> None:
    path = str(opener.directory / "zeo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        status, said = failing("primary", opener.path, "--listen", "127.0.0.1:0", "--zeo", path)
        assert status == 1
        assert f"cannot serve ZEO on {path}: Address already in use" in said
        assert is_served(path)


def options(path: Path) -> Any:
    """Return the options of a zkrunzeo that serves nothing yet."""
    found = zkzeo_server.Options()
    found.realize(["-a", str(path), "-f", f"{path.parent}/zeo.fs"])
    return found


def test_zkrunzeo_does_not_remove_a_file_at_its_address(opener: Opener) -> None:
    path = database(opener)
    content = path.read_bytes()
    server = zkzeo_server.Server(options(path))
    server.clear_socket()
    assert path.read_bytes() == content
    stale = opener.directory / "stale"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    zkzeo_server.Server(options(stale)).clear_socket()
    assert not stale.exists()


def test_a_socket_that_answers_is_not_stale(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        remove_stale(path)
        assert is_served(path)
    remove_stale(path)
    assert not (tmp_path / "socket").exists()
    remove_stale(path)
