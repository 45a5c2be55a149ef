"""A shared ZooKeeper server, and an empty tree for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import zc.zk
from zookeeper.servers import make_chroot, plain_client, standalone
from zookeeper.zeo import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zookeeper.servers import ZooKeeperServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """Run one server for all tests that do not disturb it."""
    with standalone(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def hosts(server: ZooKeeperServer) -> str:
    """Give each test a tree of its own."""
    return make_chroot(server)


@pytest.fixture
def zk(hosts: str) -> Iterator[zc.zk.ZooKeeper]:
    """Open a session in the test's tree."""
    zk = zc.zk.ZooKeeper(hosts)
    yield zk
    zk.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ZooKeeperServer]:
    """Run a server that the test may disturb."""
    with standalone(tmp_path / "zookeeper") as server:
        with plain_client(server.address) as client:
            client.create(PATH)
        yield server
