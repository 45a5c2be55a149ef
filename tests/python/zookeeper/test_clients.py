"""ZEO clients that find their servers in ZooKeeper."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import kazoo.exceptions
import pytest
import transaction
import ZConfig
import ZODB
import ZODB.config
import zodburi
from ZEO.Exceptions import ClientDisconnected

import zc.zk
import zc.zkzeo
import zc.zkzeo.nagios
import zc.zkzeo.runzeo
from programs import free_port
from replicas.waiting import DEADLINE, wait_until
from zc.zkzeo.client_storage import warning_of_lost_connections
from zookeeper.servers import IS_FULL, plain_client
from zookeeper.zeo import PATH, commit, configuration, read, server_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zc.zk import ZooKeeper


@pytest.fixture(autouse=True)
def _tree(zk: ZooKeeper) -> None:
    zk.create_recursive(PATH)


@pytest.fixture
def start(hosts: str, tmp_path: Path) -> Any:
    """Start servers with the same data; stop those that still run after the test."""
    stops = []

    def start(data: str = "Data.fs") -> Callable[[], Any]:
        stop = zc.zkzeo.runzeo.test(configuration(hosts, tmp_path / data))
        stops.append(stop)
        return stop

    yield start
    for stop in stops:
        stop()


def test_clients_follow(zk: ZooKeeper, hosts: str, start: Any) -> None:
    stop = start()
    db = zc.zkzeo.DB(hosts, PATH)
    commit(db, x=1)
    for x in range(3):
        stop()
        wait_until(lambda: not db.storage.is_connected())
        stop = start()
        wait_until(db.storage.is_connected)
        assert server_address(db.storage) == zc.zk.parse_addr(*zk.get_children(PATH))
        assert read(db)["x"] == (x or 1)
        commit(db, x=x + 1)
    db.close()


def test_a_withdrawn_server_is_left_for_another(zk: ZooKeeper, hosts: str, start: Any) -> None:
    """A client stays while it has no other server, and leaves no connection behind."""
    start("One.fs")
    (one,) = zk.get_children(PATH)
    start("Two.fs")
    (two,) = set(zk.get_children(PATH)) - {one}
    zk.create_recursive("/other")
    own = zk.register_server("/other", one)
    client = zc.zkzeo.client(hosts, "/other")
    for _ in range(20):
        own.withdraw()
        own = zk.register_server("/other", one)
    assert server_address(client) == zc.zk.parse_addr(one)
    own.withdraw()
    wait_until(lambda: not client._rpc_mgr.addresses)
    assert client.is_connected()
    dead = zk.register_server("/other", ("127.0.0.1", free_port()))
    wait_until(lambda: client._rpc_mgr.addresses)
    assert client.is_connected()
    dead.withdraw()
    zk.register_server("/other", two)
    wait_until(lambda: server_address(client) == zc.zk.parse_addr(two))
    wait_until(lambda: connections_to(one) == 0)
    client.close()
    wait_until(lambda: connections_to(two) == 0)


class Committer(threading.Thread):
    """Commits one key after the other until it is stopped; records exceptions."""

    def __init__(self, db: ZODB.DB) -> None:
        super().__init__()
        self._db = db
        self._stop_it = threading.Event()
        self.committed = 0
        self.raised: list[str] = []
        self.start()

    def run(self) -> None:
        manager = transaction.TransactionManager()
        connection = self._db.open(manager)
        while not self._stop_it.is_set():
            try:
                with manager:
                    connection.root()["n"] = self.committed
            except Exception as error:  # noqa: BLE001, PERF203 -- all of them are counted
                self.raised.append(repr(error))
            else:
                self.committed += 1
        connection.close()

    def stop(self) -> None:
        """Stop after the current commit."""
        self._stop_it.set()
        self.join()


def test_commits_do_not_fail_when_a_registration_blinks(
    zk: ZooKeeper, hosts: str, start: Any
) -> None:
    """A commit that raised, but took place, would be repeated."""
    start()
    (name,) = zk.get_children(PATH)
    db = zc.zkzeo.DB(hosts, PATH)
    committer = Committer(db)
    for _ in range(20):
        before = committer.committed
        zk.client.delete(f"{PATH}/{name}")
        wait_until(lambda: name in zk.get_children(PATH))
        wait_until(lambda: committer.committed > before + 3)  # noqa: B023 -- called at once
    committer.stop()
    assert not committer.raised
    db.close()


def test_commits_do_not_fail_when_the_client_moves(
    zk: ZooKeeper, hosts: str, start: Any
) -> None:
    """It leaves the server between two commits. Both addresses belong to one server."""
    start()
    (name,) = zk.get_children(PATH)
    port = zc.zk.parse_addr(name)[1]
    zk.create_recursive("/other")
    hosts_of_it = itertools.cycle(["127.0.0.1", "localhost"])
    registration = zk.register_server("/other", (next(hosts_of_it), port))
    db = zc.zkzeo.DB(hosts, "/other")
    committers = [Committer(db) for _ in range(3)]
    for _ in range(10):
        address = (next(hosts_of_it), port)
        following = zk.register_server("/other", address)
        registration.withdraw()
        registration = following
        wait_until(lambda: server_address(db.storage) == address)  # noqa: B023
        before = sum(committer.committed for committer in committers)
        wait_until(
            lambda: sum(committer.committed for committer in committers) > before + 3  # noqa: B023
        )
    for committer in committers:
        committer.stop()
    # Commits of the same object conflict; no other commit fails.
    assert not [e for c in committers for e in c.raised if "Conflict" not in e]
    db.close()


def connections_to(name: str) -> int:
    """Return the system's count of connections to a server."""
    port = f":{zc.zk.parse_addr(name)[1]:04X}"
    with open("/proc/net/tcp", encoding="ascii") as lines:  # noqa: PTH123
        fields = [line.split() for line in lines]
    return sum(f[1].endswith(port) and f[3] == "01" for f in fields)


def test_changes_of_other_servers_do_not_disturb(
    zk: ZooKeeper, hosts: str, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    start()
    (name,) = zk.get_children(PATH)
    db = zc.zkzeo.DB(hosts, PATH)
    before = caplog.text.count("onnected to storage")
    for n in range(10):
        registration = zk.register_server(PATH, ("127.0.0.1", free_port()))
        commit(db, n=n)
        wait_until(lambda: len(db.storage._rpc_mgr.addresses) == 2)
        registration.withdraw()
        wait_until(lambda: len(db.storage._rpc_mgr.addresses) == 1)
    assert caplog.text.count("onnected to storage") == before
    assert connections_to(name) == 1
    db.close()


def test_each_change_is_logged_once(
    zk: ZooKeeper, hosts: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zc.zkzeo")
    storage = zc.zkzeo.client(hosts, PATH, wait=False)
    where = f"<{hosts}{PATH}>"
    expected = [f"No addresses from {where}"]

    def log() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.name == "zc.zkzeo"]

    wait_until(lambda: log() == expected)
    assert repr(storage._rpc_mgr) == "<ConnectionManager for []>"
    one = zk.register_server(PATH, ("1.2.3.4", 1))
    expected += [f"OK: Addresses from {where}", f"Addresses from {where}: ['1.2.3.4:1']"]
    wait_until(lambda: log() == expected)
    assert repr(storage._rpc_mgr) == "<ConnectionManager for [('1.2.3.4', 1)]>"
    two = zk.register_server(PATH, ("1.2.3.4", 2))
    expected += [f"Addresses from {where}: ['1.2.3.4:1', '1.2.3.4:2']"]
    wait_until(lambda: log() == expected)
    zk.create_recursive(f"{PATH}/garbage")
    expected += [f"'garbage' at {where} is not an address; ignored"]
    wait_until(lambda: log() == expected)
    one.withdraw()
    expected += [f"Addresses from {where}: ['1.2.3.4:2']"]
    wait_until(lambda: log() == expected)
    two.withdraw()
    expected += [f"No addresses from {where}"]
    wait_until(lambda: log() == expected)
    storage.close()


def test_waiting_has_the_meaning_of_zeo(zk: ZooKeeper, hosts: str, start: Any) -> None:
    with pytest.raises(ClientDisconnected):
        zc.zkzeo.client(hosts, PATH, wait_timeout=1)
    with pytest.raises(ClientDisconnected, match="ZooKeeper"):
        zc.zkzeo.client(f"127.0.0.1:{free_port()}", PATH, wait_timeout=1)
    with pytest.raises(kazoo.exceptions.NoNodeError):
        zc.zkzeo.client(hosts, "/nowhere", wait_timeout=DEADLINE)
    storage = zc.zkzeo.client(hosts, PATH, wait=False)
    assert not storage.is_connected()
    # Servers that appear during the wait are found, also after wrong ones.
    opened: list[Any] = []
    opening = threading.Thread(
        target=lambda: opened.append(zc.zkzeo.client(hosts, PATH, wait_timeout=DEADLINE))
    )
    opening.start()
    for _ in range(3):
        zk.register_server(PATH, ("127.0.0.1", free_port())).withdraw()
    start()
    opening.join()
    wait_until(storage.is_connected)
    opened[0].close()
    storage.close()


def test_a_transaction_sees_what_others_committed(hosts: str, start: Any) -> None:
    start()
    writer, reader = zc.zkzeo.DB(hosts, PATH), zc.zkzeo.DB(hosts, PATH)
    connection = reader.open()
    for n in range(200):
        commit(writer, n=n)
        transaction.begin()
        assert connection.root()["n"] == n
    transaction.abort()
    connection.close()
    writer.close()
    reader.close()


def test_beginning_without_a_server_does_not_wait(hosts: str, start: Any) -> None:
    stop = start()
    db = zc.zkzeo.DB(hosts, PATH)
    commit(db, x=1)
    stop()
    wait_until(lambda: not db.storage.is_connected())
    before = time.monotonic()
    transaction.begin()
    connection = db.open()
    assert connection.root()["x"] == 1  # from the cache
    assert time.monotonic() - before < DEADLINE / 4
    transaction.abort()
    connection.close()
    db.close()


def test_arguments_are_those_of_zeo(hosts: str, start: Any) -> None:
    start()
    storage = zc.zkzeo.client(hosts, PATH, "1", 1 << 20, "its name", read_only=True)
    assert storage.isReadOnly()
    assert storage.getName() == "its name (connected)"
    storage.close()
    storage.close()
    with pytest.raises(TypeError):
        zc.zkzeo.client(hosts, PATH, no_such_option=1)
    connection = zc.zkzeo.connection(hosts, PATH)
    db = connection.db()
    storage = db.storage
    connection.close()
    assert storage._zk.closed


def test_sections(hosts: str, start: Any, tmp_path: Path) -> None:
    start()
    storage = ZODB.config.storageFromString(
        f"""
        %import zc.zkzeo
        <zkzeoclient>
            zookeeper {hosts}
            server {PATH}
            cache-size 1MB
            cache-path {tmp_path}/cache
            name its name
            read-only true
            wait-timeout 20
            server-sync on
            client-label test
            blob-dir {tmp_path}/blobs
            session-timeout 5s
        </zkzeoclient>
        """
    )
    assert storage.getName() == "its name (connected)"
    assert storage.isReadOnly()
    assert storage.server_sync
    assert (tmp_path / "cache").exists()
    assert storage.blob_dir == f"{tmp_path}/blobs"
    storage.close()


def test_the_section_has_every_option_of_zeo() -> None:
    schema = ZConfig.loadSchemaFile(
        io.StringIO(
            '<schema><import package="ZODB"/><import package="ZEO"/>'
            '<import package="zc.zkzeo"/><abstracttype name="unused"/></schema>'
        )
    )

    def options(name: str) -> set[str]:
        section = schema.gettype(name)
        return {info.attribute for _, info in section}

    ours = options("zkzeoclient")
    assert options("zeoclient") | options("clientstorage") <= ours
    assert ours - options("zeoclient") - options("clientstorage") == {
        "zookeeper",
        "zookeeper_options",
        "session_timeout",
    }


@pytest.mark.parametrize(
    "lines",
    [
        "server /servers",
        "zookeeper 127.0.0.1:1",
        "zookeeper 127.0.0.1:1\nserver /a\nserver /b",
        "zookeeper 127.0.0.1:1\nserver /a\nsession-timeout soon",
        "zookeeper 127.0.0.1:1\nserver /a\nsession-timeout -1",
    ],
)
def test_bad_sections(lines: str) -> None:
    with pytest.raises(ZConfig.ConfigurationError):
        ZODB.config.storageFromString(
            f"%import zc.zkzeo\n<zkzeoclient>\n{lines}\n</zkzeoclient>"
        )


def test_uris(hosts: str, start: Any) -> None:
    start()
    # Here the chroot is part of the path.
    opener, options = zodburi.resolve_uri(
        f"zkzeo://{hosts}{PATH}?wait_timeout=20&session_timeout=5000&connection_cache_size=9"
    )
    assert options["cache_size"] == 9
    storage = opener()
    assert storage.is_connected()
    storage.close()


@pytest.mark.parametrize(
    "uri", ["zkzeo://", "zkzeo://host:1", "zkzeo:///path", "zkzeo://h:1/p?session_timeout=x"]
)
def test_bad_uris(uri: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whatever it says
        zodburi.resolve_uri(uri)


def test_nagios(
    zk: ZooKeeper, hosts: str, start: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            zc.zkzeo.nagios.main(["-Z", hosts, *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    assert check(PATH) == (2, f"0 of 1 servers at {PATH}\n")
    assert check("/nowhere") == (2, "/nowhere is not in ZooKeeper\n")
    start()
    (name,) = zk.get_children(PATH)
    status, output = check(PATH)
    assert (status, output) == (1, f"{name}: Empty storage '1'\n")
    db = zc.zkzeo.DB(hosts, PATH)
    status, output = check(PATH, "-m")
    assert status == 0
    assert output.startswith(f"{name}: OK|active_txns=0")
    db.close()
    dead = zk.register_server(PATH, ("127.0.0.1", free_port()))
    status, output = check(PATH, "-n", "3")
    assert status == 2
    assert "2 of 3 servers" in output
    assert f"{dead.name}: Can't connect" in output


def test_a_hundred_clients(zk: ZooKeeper, hosts: str, start: Any) -> None:
    stop = start()
    clients = [zc.zkzeo.client(hosts, PATH, "1", 1 << 16, wait=False) for _ in range(100)]
    for client in clients:
        wait_until(client.is_connected)
    stop()
    for client in clients:
        wait_until(lambda: not client.is_connected())  # noqa: B023 -- called at once
    start()
    (name,) = zk.get_children(PATH)
    for client in clients:
        wait_until(client.is_connected)
    assert {server_address(client) for client in clients} == {zc.zk.parse_addr(name)}
    # Some may have tried twice, and close unused connections.
    wait_until(lambda: connections_to(name) == 100)
    for client in clients:
        client.close()
    wait_until(lambda: connections_to(name) == 0)


def test_the_registry_is_emptied_and_refilled(zk: ZooKeeper, hosts: str, start: Any) -> None:
    start()
    (name,) = zk.get_children(PATH)
    db = zc.zkzeo.DB(hosts, PATH)
    commit(db, x=1)
    with plain_client(hosts) as client:
        for _ in range(3 if IS_FULL else 1):
            while client.exists(PATH):
                # The server registers again at once.
                with contextlib.suppress(kazoo.exceptions.NotEmptyError):
                    client.delete(PATH, recursive=True)
            wait_until(lambda: not db.storage._rpc_mgr.addresses)
            # The server answers, and it is the only one.
            commit(db, x=2)
            client.create(PATH)
            wait_until(lambda: db.storage._rpc_mgr.addresses)
            assert zk.get_children(PATH) == [name]
    commit(db, y=3)
    assert read(db) == {"x": 2, "y": 3}
    db.close()


def test_a_connection_that_is_lost_while_something_is_sent() -> None:
    """Errors of asyncio are logged like other lost connections of ZEO."""

    async def lost(call: Callable[[Any], object]) -> None:
        server = await asyncio.get_running_loop().create_server(
            asyncio.Protocol, "127.0.0.1", 0
        )
        async with server:
            address = server.sockets[0].getsockname()
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, *address
            )
            transport.abort()
            await asyncio.sleep(0.1)
            call(transport)

    def send(transport: Any) -> None:
        transport.writelines([b"ping"])

    told = warning_of_lost_connections(send)
    try:
        asyncio.run(lost(send))
    except (AttributeError, TypeError):  # Pythons of 3.12 and 3.13
        with pytest.raises(ClientDisconnected, match="lost"):
            asyncio.run(lost(told))
    else:
        asyncio.run(lost(told))  # other versions only warn

    def wrong() -> None:
        raise TypeError("another")

    with pytest.raises(TypeError, match="another"):
        warning_of_lost_connections(wrong)()
