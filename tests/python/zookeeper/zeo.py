"""ZEO servers and clients with ZooKeeper: configurations, processes, views of clients."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from programs import Program, running
from replicas.waiting import wait_until
from zookeeper.servers import dies_with_us

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import ZODB

PATH = "/servers"


def configuration(
    hosts: str, data: Path, address: str = "127.0.0.1", *, path: str = PATH, more: str = ""
) -> str:
    """Return a server's configuration; `more` are lines of its section zookeeper."""
    return f"""
    <zeo>
        address {address}
    </zeo>
    <zookeeper>
        connection {hosts}
        path {path}
        session-timeout 1000
        {more}
    </zookeeper>
    <filestorage>
        path {data}
    </filestorage>
    """


@contextlib.contextmanager
def zkrunzeo(configuration: str, directory: Path) -> Iterator[Program]:
    """Run a server in a separate process during the block."""
    number = len(list(directory.glob("zkrunzeo*.conf")))
    file = directory / f"zkrunzeo{number}.conf"
    file.write_text(configuration)
    arguments = [*dies_with_us(), sys.executable, "-m", "zc.zkzeo.runzeo", "-C", file]
    with running(arguments, directory / f"zkrunzeo{number}.log") as program:
        yield program


def wait_registered(zk: Any, count: int = 1, path: str = PATH) -> list[str]:
    """Wait until this many servers are registered; return their names."""
    wait_until(lambda: len(zk.get_children(path)) == count, f"{count} servers registered")
    return list(zk.get_children(path))


def commit(db: ZODB.DB, **values: Any) -> None:
    """Set attributes of the root."""
    with db.transaction() as connection:
        for name, value in values.items():
            setattr(connection.root, name, value)


def read(db: ZODB.DB) -> dict[str, Any]:
    """Return the attributes of the root."""
    with db.transaction() as connection:
        return dict(connection.root())


def server_address(storage: Any) -> Any:
    """Return the address of the server to which a client storage is connected."""
    protocol = storage._server.client.protocol
    return protocol.addr if protocol is not None and storage.is_connected() else None
