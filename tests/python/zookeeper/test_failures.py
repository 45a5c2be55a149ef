"""Failures of ZooKeeper, of the network and of processes, with real servers and processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import transaction
import ZEO.ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError

import zc.zk
import zc.zkzeo
import zc.zkzeo.runzeo
import zc.zrs.zk
from programs import free_port
from replicas.transactions import commit as commit_transaction
from replicas.waiting import DEADLINE, wait_caught_up, wait_until
from zookeeper.partition import network
from zookeeper.servers import (
    FREEZE,
    IS_FULL,
    THAW,
    ZooKeeperServer,
    connection_string,
    ensemble,
    plain_client,
    require_zookeeper,
    slow,
    standalone,
)
from zookeeper.zeo import (
    PATH,
    commit,
    configuration,
    read,
    server_address,
    wait_registered,
    zkrunzeo,
)

if TYPE_CHECKING:
    from pathlib import Path

    from zc.zk import ZooKeeper


def names(hosts: str) -> list[str]:
    """Return the registered names as seen by an independent client."""
    with plain_client(hosts) as client:
        client.sync(PATH)
        return sorted(client.get_children(PATH))


# --- ZooKeeper ----------------------------------------------------------------------


def test_zookeeper_is_killed_and_restarted(
    own_server: ZooKeeperServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zc.zkzeo")
    hosts = own_server.address
    stop = zc.zkzeo.runzeo.test(configuration(hosts, tmp_path / "Data.fs"))
    (name,) = names(hosts)
    db = zc.zkzeo.DB(hosts, PATH)
    cycles = 3 if IS_FULL else 1
    for n in range(cycles):
        own_server.kill()
        commit(db, n=n)  # this does not require ZooKeeper
        assert db.storage.is_connected()
        own_server.start()
        own_server.wait_ready()
        with contextlib.closing(zc.zk.ZooKeeper(hosts, wait=True)) as zk:
            assert wait_registered(zk) == [name]
        commit(db, n=n + 10)
    assert server_address(db.storage) == zc.zk.parse_addr(name)
    # Later changes are noticed as before.
    stop()
    wait_until(lambda: not db.storage.is_connected())
    wait_until(lambda: "No addresses" in caplog.text)
    stop = zc.zkzeo.runzeo.test(configuration(hosts, tmp_path / "Data.fs"))
    wait_until(db.storage.is_connected)
    assert read(db)["n"] == cycles + 9
    db.close()
    stop()


def test_zookeeper_comes_later_than_server_and_client(tmp_path: Path) -> None:
    require_zookeeper()
    zookeeper = ZooKeeperServer(tmp_path / "zookeeper")
    hosts = zookeeper.address
    port = free_port()
    fixed = configuration(hosts, tmp_path / "Fixed.fs", f"127.0.0.1:{port}")
    dynamic = configuration(hosts, tmp_path / "Dynamic.fs")
    with zkrunzeo(fixed, tmp_path) as one, zkrunzeo(dynamic, tmp_path) as two:
        storage = zc.zkzeo.client(hosts, PATH, wait=False)
        # The server with the fixed port already serves.
        plain = ZEO.ClientStorage.ClientStorage(("127.0.0.1", port))
        assert plain.is_connected()
        plain.close()
        assert not storage.is_connected()
        try:
            zookeeper.start()
            zookeeper.wait_ready()
            with plain_client(hosts) as client:
                client.create(PATH)
            with contextlib.closing(zc.zk.ZooKeeper(hosts)) as zk:
                registered = wait_registered(zk, 2)
            assert f"127.0.0.1:{port}" in registered
            wait_until(storage.is_connected)
            storage.close()
            assert one.end() == 0
            assert two.end() == 0
        finally:
            zookeeper.kill()


def test_cut_off_past_the_session_timeout(server: ZooKeeperServer, zk: ZooKeeper) -> None:
    """A server that is cut off is unregistered, and registered again once the network is back.

    Children that it follows catch up with changes.
    """
    zk.create_recursive(PATH)
    chroot = zk.connection_string.removeprefix(server.address)
    with (
        network(server.port) as between,
        contextlib.closing(zc.zk.ZooKeeper(between.address + chroot, 1.0)) as cut_off,
    ):
        registration = cut_off.register_server(PATH, ("127.0.0.1", 8100), n=1)
        children = cut_off.children(PATH)
        for n in range(3 if IS_FULL else 1):
            between.cut()
            wait_registered(zk, 0)
            # Another server registers, which the one that is cut off cannot notice.
            with plain_client(zk.connection_string) as client:
                client.create(f"{PATH}/127.0.0.1:{n + 1}")
            assert f"127.0.0.1:{n + 1}" not in children
            between.mend()
            wait_until(lambda: registration.name in zk.get_children(PATH))
            wait_until(lambda: sorted(children) == zk.get_children(PATH))
            assert zk.get_properties(registration.path) == {"n": 1, "pid": os.getpid()}
            stat = zk.client.exists(registration.path)
            assert stat.ephemeralOwner == cut_off.session_id
            zk.delete_recursive(f"{PATH}/127.0.0.1:{n + 1}")
            wait_until(lambda: list(children) == [registration.name])
        # A server can be stopped while it is cut off.
        between.cut()
        cut_off.close()
        wait_registered(zk, 0)


def test_a_server_that_loses_only_zookeeper_keeps_its_clients_and_secondaries(
    server: ZooKeeperServer, zk: ZooKeeper, tmp_path: Path
) -> None:
    """Its registrations are removed, but its peers have no alternative, and data still flow."""
    zk.create_recursive(PATH)
    zk.create_recursive("/primaries")
    hosts = zk.connection_string
    chroot = hosts.removeprefix(server.address)
    with network(server.port) as between:
        cut_off = between.address + chroot
        stop = zc.zkzeo.runzeo.test(configuration(cut_off, tmp_path / "Data.fs"))
        primary = zc.zrs.zk.Primary(
            str(tmp_path / "Primary.fs"),
            ("127.0.0.1", 0),
            cut_off,
            "/primaries",
            session_timeout=1,
        )
        wait_registered(zk, 1, "/primaries")
        secondary = zc.zrs.zk.Secondary(
            str(tmp_path / "Copy.fs"), hosts, "/primaries", reconnect_delay=10 * DEADLINE
        )
        db = zc.zkzeo.DB(hosts, PATH)
        commit(db, n=1)
        commit_transaction(primary, {0: b"data"})
        wait_caught_up(primary, secondary)
        between.cut()
        wait_registered(zk, 0)
        wait_registered(zk, 0, "/primaries")
        wait_until(lambda: not db.storage._rpc_mgr.addresses)
        wait_until(lambda: secondary.status()["address"] == [])
        for n in range(20):
            commit(db, n=n)
            commit_transaction(primary, {n: b"more"})
            time.sleep(0.1)
        wait_caught_up(primary, secondary)
        between.mend()
        wait_registered(zk)
        wait_registered(zk, 1, "/primaries")
        commit(db, n=100)
        db.close()
        secondary.close()
        primary.close()
        stop()


def test_calls_and_close_end_while_zookeeper_is_frozen(own_server: ZooKeeperServer) -> None:
    """The sessions last longer than the test waits."""
    hosts = own_server.address
    zk = zc.zk.ZooKeeper(hosts, 10 * DEADLINE, call_timeout=1)
    registration = zk.register_server(PATH, ("1.2.3.4", 5))
    second = zc.zk.ZooKeeper(hosts, 10 * DEADLINE, call_timeout=1)
    raised: list[type[BaseException]] = []

    def use() -> None:
        for call in (
            lambda: zk.register_server(PATH, ("1.2.3.4", 6)),
            lambda: zk.get_children(PATH),
            lambda: zk.children(PATH),
            lambda: zk.import_tree("/a\n"),
            lambda: zk.create_recursive("/a"),
        ):
            try:
                call()
            except zc.zk.FailedConnect as error:  # noqa: PERF203 -- each is to raise
                raised.append(type(error))
        registration.withdraw()
        second.close()

    os.kill(own_server.pid, FREEZE)
    try:
        using = threading.Thread(target=use, daemon=True)
        using.start()
        using.join(DEADLINE)
        assert not using.is_alive()
        assert len(raised) == 5
    finally:
        os.kill(own_server.pid, THAW)
    # Registrations withdrawn meanwhile are removed once the connection is back.
    wait_until(lambda: names(hosts) == [])
    assert zk.get_children(PATH) == []
    zk.close()


@pytest.mark.parametrize("timeout", [1.5, 3.0, 30.0])
def test_the_pause_before_connecting_again_is_shorter_than_the_session(
    hosts: str, timeout: float
) -> None:
    """Otherwise a briefly lost connection would cost the registration."""
    zk = zc.zk.ZooKeeper(hosts, timeout)
    longest = zk.client._conn_retry.max_delay
    zk.close()
    assert longest == min(timeout / 3, 3.0)


@slow
def test_frozen_past_the_session_timeout(own_server: ZooKeeperServer, tmp_path: Path) -> None:
    """A frozen server is unregistered; when it continues, it registers again, once."""
    hosts = own_server.address
    with zkrunzeo(configuration(hosts, tmp_path / "Data.fs"), tmp_path) as server:
        with contextlib.closing(zc.zk.ZooKeeper(hosts)) as zk:
            (name,) = wait_registered(zk)
            db = zc.zkzeo.DB(hosts, PATH)
            commit(db, x=1)
            first = zk.client.exists(f"{PATH}/{name}").ephemeralOwner
            os.kill(server.pid, FREEZE)
            wait_registered(zk, 0)
            wait_until(lambda: not db.storage.is_connected())
            os.kill(server.pid, THAW)
            assert wait_registered(zk) == [name]
            assert zk.client.exists(f"{PATH}/{name}").ephemeralOwner != first
            assert zk.get_properties(f"{PATH}/{name}") == {"pid": server.pid}
            wait_until(db.storage.is_connected)
            assert read(db) == {"x": 1}
            db.close()
        assert server.end() == 0


# --- ZEO servers --------------------------------------------------------------------


def commit_counting(db: Any, acknowledged: list[int], stop: threading.Event) -> None:
    """Increment a counter, recording commits; continue after lost servers."""
    manager = transaction.TransactionManager()
    n = 0
    while not stop.is_set():
        try:
            manager.begin()
            connection = db.open(manager)
            try:
                connection.root()[n] = n
                manager.commit()
            finally:
                manager.abort()
                connection.close()
        except (ClientDisconnected, ConflictError, OSError):
            time.sleep(0.01)
            continue
        acknowledged.append(n)
        n += 1


def test_a_server_is_killed_while_clients_commit(
    zk: ZooKeeper, hosts: str, tmp_path: Path
) -> None:
    """They switch to the next server with the same data, which has all acknowledged commits."""
    zk.create_recursive(PATH)
    config = configuration(hosts, tmp_path / "Data.fs")
    stop = threading.Event()
    acknowledged: list[int] = []
    killed = []
    with contextlib.ExitStack() as servers:
        server = servers.enter_context(zkrunzeo(config, tmp_path))
        db = zc.zkzeo.DB(hosts, PATH)
        thread = threading.Thread(target=commit_counting, args=(db, acknowledged, stop))
        thread.start()
        for _ in range(5 if IS_FULL else 1):
            killed.append(len(acknowledged))
            wait_until(lambda: len(acknowledged) > killed[-1] + 20)
            server.end(signal.SIGKILL)
            server = servers.enter_context(zkrunzeo(config, tmp_path))
        wait_until(lambda: len(acknowledged) > killed[-1] + 40)
        stop.set()
        thread.join()
        assert set(acknowledged) <= set(read(db))
        db.close()
        server.end()


def test_clients_switch_to_another_registered_server(
    zk: ZooKeeper, hosts: str, tmp_path: Path
) -> None:
    """The other server has a copy: a secondary of the first."""
    zk.create_recursive(PATH)
    primary = configuration(hosts, tmp_path / "unused").replace(
        f"<filestorage>\n        path {tmp_path / 'unused'}\n    </filestorage>",
        f"<primary>\nreplicate-to 127.0.0.1:{(port := free_port())}\n"
        f"filestorage-path {tmp_path}/1.fs\n</primary>",
    )
    secondary = configuration(hosts, tmp_path / "unused").replace(
        f"<filestorage>\n        path {tmp_path / 'unused'}\n    </filestorage>",
        f"<secondary>\nreplicate-from 127.0.0.1:{port}\nreconnect-delay 1\n"
        f"filestorage-path {tmp_path}/2.fs\n</secondary>",
    )
    with (
        zkrunzeo(f"%import zc.zrs\n{primary}", tmp_path) as one,
        zkrunzeo(f"%import zc.zrs\n{secondary}", tmp_path),
    ):
        wait_registered(zk, 2)
        writer = zc.zkzeo.DB(hosts, PATH)
        for n in range(20):
            commit(writer, n=n)
        reader = zc.zkzeo.client(hosts, PATH, read_only=True)
        fallback = zc.zkzeo.client(hosts, PATH, read_only_fallback=True)
        first = server_address(writer.storage)
        last = writer.storage.lastTransaction()
        wait_until(lambda: server_address(fallback) == first)
        files = tmp_path / "1.fs", tmp_path / "2.fs"
        wait_until(lambda: files[0].read_bytes() == files[1].read_bytes())
        one.end(signal.SIGKILL)
        for storage in reader, fallback:
            wait_until(lambda: server_address(storage) not in {None, first})  # noqa: B023
            assert storage.lastTransaction() == last
            storage.close()
        writer.close()


# --- ensembles ----------------------------------------------------------------------


def test_the_leader_is_killed(tmp_path: Path) -> None:
    with ensemble(tmp_path / "ensemble") as servers:
        hosts = connection_string(servers)
        with plain_client(hosts) as client:
            client.create(PATH)
        config = configuration(hosts, tmp_path / "Data.fs").replace("1000", "15000")
        stop = zc.zkzeo.runzeo.test(config)
        (name,) = names(hosts)
        db = zc.zkzeo.DB(hosts, PATH, session_timeout=15)
        with contextlib.closing(zc.zk.ZooKeeper(hosts, 15)) as zk:
            told: list[list[str]] = []
            children = zk.children(PATH)
            children(lambda children: told.append(list(children)))
            (leader,) = [server for server in servers if server.mode == "leader"]
            leader.kill()
            commit(db, x=1)
            # Writing is possible again, and the registration was kept.
            wait_until(lambda: registers(hosts))
            assert names(hosts) == [name]
            assert db.storage.is_connected()
            wait_until(lambda: told[-1] == [name])
            leader.start()
            leader.wait_ready()
            stop()
            wait_until(lambda: told[-1] == [])
            wait_until(lambda: not db.storage.is_connected())
        db.close()


def registers(hosts: str) -> bool:
    """Return whether a server can register, by trying it."""
    try:
        with contextlib.closing(zc.zk.ZooKeeper(hosts)) as zk:
            zk.register_server(PATH, ("1.2.3.4", 5))
    except zc.zk.FailedConnect:
        return False
    return True


@slow
def test_the_ensemble_is_rebuilt_without_its_data(tmp_path: Path) -> None:
    with standalone(tmp_path / "first") as first:
        hosts, port = first.address, first.port
        with plain_client(hosts) as client:
            client.create(PATH)
        stop = zc.zkzeo.runzeo.test(configuration(hosts, tmp_path / "Data.fs"))
        (name,) = names(hosts)
        db = zc.zkzeo.DB(hosts, PATH)
        commit(db, x=1)
    second = ZooKeeperServer(tmp_path / "second")
    second.port = port
    second.start()
    try:
        second.wait_ready()
        with plain_client(hosts) as client:
            client.create(PATH)
        wait_until(lambda: names(hosts) == [name])
        wait_until(db.storage.is_connected)
        assert read(db) == {"x": 1}
        db.close()
        stop()
    finally:
        second.kill()


def test_failed_authentication_is_reported(hosts: str) -> None:
    zk = zc.zk.ZooKeeper(hosts, auth_data=[("digest", "user:password")])
    assert zk.connected
    zk.close()
    with pytest.raises(zc.zk.FailedConnect, match="authentication failed"):
        zc.zk.ZooKeeper(hosts, wait=True, auth_data=[("no-such-scheme", "x")])
