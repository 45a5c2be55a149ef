"""Connections that do not read cost a primary little memory, whatever the records."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ZODB
from persistent.mapping import PersistentMapping

from certificates.making import Authority
from programs import ZRS, free_port, running
from replicas.waiting import wait_until
from streams.messages import Z64, sized
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

HOST = "127.0.0.1"
CONNECTIONS = 100
MOST_EACH = 110
"""Kilobytes."""
SIZE = 16 << 20
"""Of the database: more than the system keeps for a connection."""


def write(path: Path, record: int) -> None:
    """Write a database with records of this length."""
    database = ZODB.DB(FileStorage(str(path)))
    with database.transaction() as connection:
        connection.root.items = PersistentMapping()
        for number in range(SIZE // record):
            connection.root.items[number] = PersistentMapping(data=os.urandom(record))
    database.close()


def memory(pid: int) -> int:
    """Return the private memory of a process in kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


def settled(pid: int) -> int:
    """Return the memory of a process once it is idle."""
    seen = [0, *(memory(pid) for _ in range(5))]
    while max(seen) - min(seen) > 100:
        time.sleep(0.1)
        seen = [*seen[1:], memory(pid)]
    return seen[-1]


def answers(port: int) -> Callable[[], bool]:
    """Return a function that returns whether a server listens on a port."""

    def check() -> bool:
        with socket.socket() as client:
            return client.connect_ex((HOST, port)) == 0

    return check


@pytest.mark.parametrize(
    ("record", "encrypted"), [(4 << 10, False), (1 << 20, False), (4 << 10, True)]
)
def test_a_connection_that_does_not_read_costs_little_memory(
    record: int, encrypted: bool, tmp_path: Path
) -> None:
    """Each connection kept its chunk and window, and the whole of a long record."""
    path = tmp_path / "Data.fs"
    write(path, record)
    port = free_port()
    command = [*ZRS, "primary", path, "--listen", f"{HOST}:{port}"]
    context = None
    if encrypted:
        authority = Authority(tmp_path, "ours")
        certificate, key = authority.issue()
        command += ["--ssl-certificate", certificate, "--ssl-key", key]
        command += ["--ssl-authenticate", authority.path]
        context = ssl.create_default_context(cafile=str(authority.path))
        context.load_cert_chain(certificate, key)
    with ExitStack() as stack:
        program = stack.enter_context(running(command, tmp_path / "log"))

        def connect() -> socket.socket:
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
            client.connect((HOST, port))
            if context is not None:
                client = stack.enter_context(context.wrap_socket(client, server_hostname=HOST))
            client.sendall(sized(b"zrs2.1") + sized(Z64))
            # Connections that begin together are served together, which needs more memory
            # briefly.
            assert client.recv(1)
            return client

        wait_until(answers(port))
        connect()
        before = settled(program.pid)
        for _ in range(CONNECTIONS):
            connect()
        after = settled(program.pid)
        assert program.running
    assert (after - before) / CONNECTIONS < MOST_EACH
