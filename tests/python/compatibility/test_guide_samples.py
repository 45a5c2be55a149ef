"""Every configuration and Python sample of ``zrs-guide.txt`` is run.

Only paths, host names, ports and the names of eggs are substituted. The other parts of the
buildout samples run in tests/buildout.
"""

from __future__ import annotations

import configparser
import contextlib
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZODB
import ZODB.config
from ZEO.ClientStorage import ClientStorage

from guide import Samples, guide_samples
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT = 30


def wait_for(condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def samples() -> Samples:
    return guide_samples()


def zeo_conf(sample: str, directory: Path) -> str:
    """Return the ZEO server's configuration in a buildout sample."""
    parser = configparser.RawConfigParser(
        delimiters=("=",), comment_prefixes=("#",), empty_lines_in_values=False
    )
    parser.read_string(sample)
    (part,) = set(parser.sections()) - {"buildout", "zeo"}
    assert parser[part]["recipe"] == "zc.zodbrecipes:server"
    return parser[part]["zeo.conf"].replace("${buildout:directory}", str(directory))


def test_every_block_is_a_sample_or_repeats_a_part_of_one(samples: Samples) -> None:
    counts = [len(kind) for kind in (samples.zconfig, samples.python, samples.buildout)]
    assert counts == [2, 1, 2]
    assert len(samples.shell) == 3
    whole = {*samples.shell, *samples.buildout, *samples.zconfig, *samples.python}
    rest = set(samples.blocks) - whole - set(samples.excerpts())
    # Commands; one line has no argument.
    assert rest == {"bin/buildout"}
    assert len(samples.excerpts()) > 8


def test_a_document_without_samples_is_noticed() -> None:
    nothing = Samples("Text::\n\n   no sample\n")
    assert (nothing.zconfig, nothing.python, nothing.buildout) == ([], [], [])


# --- Configuration ----------------------------------------------------------------------

PLACES = {
    "/path/to/data/file": "primary.fs",
    "/path/to/secondary/data/file": "secondary.fs",
}


def substituted(text: str, directory: Path, ports: dict[str, int]) -> str:
    """Return a sample with paths, the primary's host and the ports of this test."""
    for place, name in PLACES.items():
        text = text.replace(f"path {place}\n", f"path {directory / name}\n")
    text = text.replace("primary-host:", "127.0.0.1:")
    return re.sub(
        r"(?<=address )(\S*:)?(\d+)$",
        lambda found: f"{found[1] or ''}{ports[found[2]]}",
        text,
        flags=re.MULTILINE,
    )


def test_the_zconfig_samples_through_zodb(samples: Samples, tmp_path: Path) -> None:
    ports = {"5000": free_port()}
    primary, secondary = (
        ZODB.config.storageFromString(substituted(sample, tmp_path, ports))
        for sample in samples.zconfig
    )
    with contextlib.closing(primary), contextlib.closing(secondary):
        assert isinstance(primary, Primary)
        assert isinstance(secondary, Secondary)
        db = ZODB.DB(primary)
        # A secondary that is opened first would retry after a minute; this one is not.
        wait_for(lambda: secondary.lastTransaction() == primary.lastTransaction())
        with db.transaction() as connection:
            connection.root()["x"] = 1
        wait_for(lambda: secondary.lastTransaction() == primary.lastTransaction())
        reading = ZODB.DB(secondary)
        assert reading.open(transaction.TransactionManager()).root()["x"] == 1


class Server:
    """A ``runzeo`` process."""

    def __init__(self, configuration: str, directory: Path, name: str, port: int) -> None:
        directory.mkdir(exist_ok=True)
        path = directory / f"{name}.conf"
        path.write_text(configuration)
        self.log = directory / f"{name}.log"
        self.addr = ("127.0.0.1", port)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ZEO.runzeo", "-C", path],
                cwd=directory,
                stdout=log,
                stderr=log,
            )

    def client(self, *, read_only: bool) -> Any:
        storage = ClientStorage(self.addr, read_only=read_only, wait_timeout=TIMEOUT)
        assert storage.is_connected(), self.log.read_text()
        return storage

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(TIMEOUT) == 0, self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:

        def serve(*arguments: Any) -> Server:
            server = Server(*arguments)
            stack.callback(server.kill)
            return server

        yield serve


def with_zeo_section(sample: str) -> str:
    """Return the ZEO server's configuration, the guide's "your configuration file"."""
    return f"<zeo>\n   address 8100\n</zeo>\n{sample}\n"


@pytest.mark.parametrize("kind", ["zconfig", "buildout"])
def test_clients_of_the_servers_configured_as_in_the_samples(
    samples: Samples, tmp_path: Path, serve: Callable[..., Server], kind: str
) -> None:
    """A client of the secondary's server sees each change without reconnecting."""
    replication = free_port()
    zeo_ports = [free_port(), free_port()]
    servers = []
    for number, name in enumerate(["primary", "secondary"]):
        sample = getattr(samples, kind)[number]
        text = with_zeo_section(sample) if kind == "zconfig" else zeo_conf(sample, tmp_path)
        ports = {"8100": zeo_ports[number], "5000": replication, "8101": replication}
        configuration = substituted(text, tmp_path, ports)
        servers.append(serve(configuration, tmp_path, name, zeo_ports[number]))
        # The secondary must find the primary at its first attempt.
        servers[-1].client(read_only=number == 1).close()

    writer = ZODB.DB(servers[0].client(read_only=False))
    reader = servers[1].client(read_only=True)
    with writer.transaction() as connection:
        connection.root()["number"] = 0
    wait_for(lambda: reader.lastTransaction() == writer.lastTransaction())
    connected = reader._connection_generation
    reading = ZODB.DB(reader)
    seen = reading.open(transaction.TransactionManager())
    for number in range(1, 21):
        with writer.transaction() as connection:
            connection.root()["number"] = number
        wait_for(lambda: reader.lastTransaction() == writer.lastTransaction())
        seen.sync()
        assert seen.root()["number"] == number
    assert reader._connection_generation == connected
    reading.close()
    writer.close()
    for server in reversed(servers):
        server.stop()
    files = [(tmp_path / name).read_bytes() for name in ("primary.fs", "secondary.fs")]
    assert files[0] == files[1]


# --- Python -----------------------------------------------------------------------------


def test_the_python_sample(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (sample,) = samples.python
    port = free_port()
    assert sample.count("8101") == 2  # the second is in a comment
    names: dict[str, Any] = {
        "path_to_zrs_egg": str(tmp_path / "zrs.egg"),
        "path_to_file_storage": str(tmp_path / "Data.fs"),
    }
    exec(sample.replace("8101", str(port)), names)  # noqa: S102 -- this is the test
    primary, database = names["primary"], names["database"]
    with contextlib.closing(database):
        assert isinstance(primary, Primary)
        # According to the text, the same holds for secondaries, and an empty host is this
        # machine.
        secondary = Secondary(str(tmp_path / "copy.fs"), ("", port))
        with contextlib.closing(secondary):
            with database.transaction() as connection:
                connection.root()["x"] = 1
            wait_for(lambda: secondary.lastTransaction() == primary.lastTransaction())
            copy = ZODB.DB(secondary)
            assert copy.open(transaction.TransactionManager()).root()["x"] == 1
