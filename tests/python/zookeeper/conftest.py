"""A ZooKeeper server for a module's tests, and an empty tree for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import zc.zk
from zookeeper.servers import make_chroot, standalone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zookeeper.servers import ZooKeeperServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """Run one server for all tests; none of them hurts it."""
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
