"""Primaries that register in ZooKeeper, and secondaries that follow them."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import ZConfig
import ZODB.config

import zc.zk
import zc.zrs.reactor
import zc.zrs.zk
from replicas.comparison import assert_identical
from replicas.opening import CLOSE_DEADLINE
from replicas.transactions import commit
from replicas.waiting import DEADLINE, wait_caught_up, wait_until
from zc.zrs.status.metrics import measures
from zc.zrs.status.observer import Observer
from zc.zrs.status.readiness import judge
from zookeeper.servers import expire_session
from zookeeper.zeo import wait_registered

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener
    from zc.zk import ZooKeeper

PATH = "/primaries"
# With this delay, waiting before connecting again would be noticed.
NEVER = 10 * DEADLINE


@pytest.fixture(autouse=True)
def _tree(zk: ZooKeeper) -> None:
    zk.create_recursive(PATH)


@pytest.fixture(params=["tokio", "twisted"])
def reactor(request: pytest.FixtureRequest) -> Any:
    return None if request.param == "tokio" else zc.zrs.reactor.reactor()


def open_primary(
    opener: Opener, hosts: str, path: Path | None = None, reactor: Any = None
) -> zc.zrs.zk.Primary:
    primary = zc.zrs.zk.Primary(
        str(path or opener.path),
        ("127.0.0.1", 0),
        hosts,
        PATH,
        reactor,
        close_deadline=CLOSE_DEADLINE,
    )
    return opener.closing(primary)


def open_secondary(opener: Opener, hosts: str, reactor: Any = None) -> zc.zrs.zk.Secondary:
    secondary = zc.zrs.zk.Secondary(
        str(opener.copy), hosts, PATH, reactor, reconnect_delay=NEVER
    )
    return opener.closing(secondary)


def test_a_secondary_finds_its_primary(
    zk: ZooKeeper, hosts: str, opener: Opener, reactor: Any
) -> None:
    secondary = open_secondary(opener, hosts, reactor)
    primary = open_primary(opener, hosts, reactor=reactor)
    (name,) = wait_registered(zk, path=PATH)
    assert zc.zk.parse_addr(name) == primary.address
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)
    primary.close()
    assert zk.get_children(PATH) == []


def test_a_secondary_goes_to_the_next_primary(hosts: str, opener: Opener, reactor: Any) -> None:
    secondary = open_secondary(opener, hosts, reactor)
    primary = open_primary(opener, hosts, reactor=reactor)
    for n in range(3):
        commit(primary, {n: b"data"})
        wait_caught_up(primary, secondary)
        primary.close()
        path = opener.directory / f"next{n}.fs"
        shutil.copy(opener.copy, path)
        primary = open_primary(opener, hosts, path, reactor)
    tid = commit(primary, {9: b"last"})
    wait_until(lambda: secondary.lastTransaction() == tid)
    assert_identical(path, opener.copy)


def test_a_primary_that_is_not_registered_is_kept_while_there_is_no_other(
    zk: ZooKeeper, hosts: str, opener: Opener, reactor: Any
) -> None:
    first = opener.primary()
    assert first.address
    registration = zk.register_server(PATH, first.address)
    secondary = open_secondary(opener, hosts, reactor)
    commit(first, {0: b"data"})
    wait_caught_up(first, secondary)
    registration.withdraw()
    wait_until(lambda: secondary.status()["address"] == [])
    for n in range(5):
        commit(first, {n: b"more"})
        wait_caught_up(first, secondary)
    shutil.copy(opener.path, opener.directory / "second.fs")
    second = opener.primary(str(opener.directory / "second.fs"))
    assert second.address
    tid = commit(second, {9: b"on the second"})
    registration = zk.register_server(PATH, second.address)
    wait_until(lambda: secondary.lastTransaction() == tid)
    # A lost connection is not restored before its address is registered.
    registration.withdraw()
    wait_until(lambda: secondary.status()["address"] == [])
    second.close()
    wait_until(lambda: not secondary.status()["connected"])
    third = open_primary(opener, hosts, opener.directory / "second.fs")
    tid = commit(third, {9: b"again"})
    wait_until(lambda: secondary.lastTransaction() == tid)


def test_a_healthy_connection_stays(
    zk: ZooKeeper, hosts: str, opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zc.zrs")
    secondary = open_secondary(opener, hosts)
    primary = open_primary(opener, hosts)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    for n in range(5):
        other = zk.register_server(PATH, ("127.0.0.1", n + 1))
        wait_until(lambda: f"127.0.0.1:{n + 1}'" in caplog.text)  # noqa: B023 -- called at once
        commit(primary, {n: b"more"})
        wait_caught_up(primary, secondary)
        other.withdraw()
    connected = [
        r
        for r in caplog.records
        if r.name == "zc.zrs.secondary" and r.getMessage().endswith("Connected")
    ]
    assert len(connected) == 1


def test_a_lost_session_of_the_secondary_changes_nothing(
    hosts: str, opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zc.zrs")
    secondary = open_secondary(opener, hosts)
    primary = open_primary(opener, hosts)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    session = secondary._InZooKeeper__zk
    old = session.session_id
    expire_session(session.client, hosts)
    wait_until(lambda: session.connected and session.client.client_id[0] != old)
    commit(primary, {1: b"more"})
    wait_caught_up(primary, secondary)
    assert caplog.text.count(": Connected") == 2  # once on each side
    assert "No addresses" not in caplog.text.partition("Addresses from")[2]


def test_sections(zk: ZooKeeper, hosts: str, opener: Opener, tmp_path: Path) -> None:
    zk.create_recursive("/second")

    def open_section(text: str) -> Any:
        return opener.closing(ZODB.config.storageFromString(f"%import zc.zrs\n{text}"))

    first = open_section(
        f"<primary>\nzookeeper {hosts}\nreplicate-to {PATH}\naddress 127.0.0.1:0\n"
        f"filestorage-path {tmp_path}/1.fs\n</primary>"
    )
    middle = open_section(
        f"<zrs>\nzookeeper {hosts}\nreplicate-from {PATH}\nreplicate-to /second\n"
        f"address 127.0.0.1:0\nfilestorage-path {tmp_path}/2.fs\n</zrs>"
    )
    other = open_section(
        f"<zrs>\nreplicate-from-zookeeper {hosts}\nreplicate-from /second\n"
        f"filestorage-path {tmp_path}/3.fs\nreconnect-delay 1\n</zrs>"
    )
    last = open_section(
        f"<secondary>\nzookeeper {hosts}\nreplicate-from /second\n"
        f"filestorage-path {tmp_path}/4.fs\n</secondary>"
    )
    assert type(first) is zc.zrs.zk.Primary
    assert {type(middle), type(other), type(last)} == {zc.zrs.zk.Secondary}
    tid = commit(first, {0: b"data"})
    for storage in middle, other, last:
        wait_until(lambda: storage.lastTransaction() == tid)  # noqa: B023 -- called at once
    assert zc.zk.parse_addr(zk.get_children("/second")[0]) == middle.address


@pytest.mark.parametrize("section", ["primary", "zrs"])
def test_a_section_registers_another_address(
    zk: ZooKeeper, hosts: str, opener: Opener, tmp_path: Path, section: str
) -> None:
    text = (
        f"%import zc.zrs\n<{section}>\nzookeeper {hosts}\nreplicate-to {PATH}\n"
        f"register-as db.example.com\nfilestorage-path {tmp_path}/1.fs\n</{section}>"
    )
    primary = opener.closing(ZODB.config.storageFromString(text))
    assert wait_registered(zk, path=PATH) == [f"db.example.com:{primary.address[1]}"]


def test_a_primary_refuses_an_address_that_nobody_can_connect_to(
    opener: Opener, hosts: str
) -> None:
    where = ("127.0.0.1", 0), hosts, PATH
    with pytest.raises(ValueError, match="all addresses"):
        zc.zrs.zk.Primary(str(opener.path), *where, register_as="0.0.0.0:1")


@pytest.mark.parametrize(
    ("section", "lines", "error"),
    [
        ("primary", "zookeeper h:1\naddress 127.0.0.1:1", "requires a path in replicate-to"),
        (
            "primary",
            "zookeeper h:1\nreplicate-to 127.0.0.1:1",
            "requires a path in replicate-to",
        ),
        ("secondary", "zookeeper h:1\nreplicate-from 127.0.0.1:1", "requires a path"),
        ("zrs", "replicate-from-zookeeper h:1\nreplicate-to :1", "requires a path"),
        ("zrs", "address :1\nreplicate-from :1", "has address, which requires"),
    ],
)
def test_bad_sections(section: str, lines: str, error: str) -> None:
    with pytest.raises(ZConfig.ConfigurationError, match=error):
        ZODB.config.storageFromString(
            f"%import zc.zrs\n<{section}>\n{lines}\nfilestorage-path x\n</{section}>"
        )


def test_unix_sockets_are_not_registered(hosts: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="UNIX socket"):
        zc.zrs.zk.Primary(str(tmp_path / "d"), str(tmp_path / "s"), hosts, PATH)


def judged(storage: Any, role: Any) -> tuple[list[str], dict[str, float]]:
    """Return why a storage is not ready, and its metrics of ZooKeeper."""
    snapshot = Observer(storage.status, role, "Data.fs").snapshot()
    named = {measure.name: measure.value for measure in measures(snapshot)}
    return judge(snapshot).reasons, {
        name: value for name, value in named.items() if name.startswith("zrs_zookeeper_")
    }


def test_a_primary_that_is_not_registered_is_not_ready(
    opener: Opener, hosts: str, zk: ZooKeeper
) -> None:
    zk.delete_recursive(PATH)
    primary = open_primary(opener, hosts)
    wait_until(lambda: primary.status()["zookeeper"]["why_not_registered"])
    reasons, values = judged(primary, "primary")
    assert [PATH in reason for reason in reasons] == [True]
    assert values == {"zrs_zookeeper_connected": 1, "zrs_zookeeper_registered": 0}
    zk.create_recursive(PATH)
    wait_until(lambda: primary.status()["zookeeper"]["registered"])
    reasons, values = judged(primary, "primary")
    assert reasons == []
    assert values == {"zrs_zookeeper_connected": 1, "zrs_zookeeper_registered": 1}
    status = primary.status()["zookeeper"]
    assert status["servers"] == hosts
    assert status["path"] == f"{PATH}/127.0.0.1:{primary.address[1]}"
    assert int(status["session"] or "0", 16)
    assert status["why_not_registered"] is None


def test_a_secondary_reports_which_primaries_are_registered(opener: Opener, hosts: str) -> None:
    secondary = open_secondary(opener, hosts)
    wait_until(lambda: secondary.status()["zookeeper"]["connected"])
    reasons, values = judged(secondary, "secondary")
    assert [f"no primary is registered in ZooKeeper at {PATH}" in one for one in reasons] == [
        True
    ]
    assert values == {"zrs_zookeeper_connected": 1, "zrs_zookeeper_addresses": 0}
    primary = open_primary(opener, hosts)
    address = ["127.0.0.1", primary.address[1]]
    wait_until(lambda: secondary.status()["zookeeper"]["addresses"] == [address])
    assert judged(secondary, "secondary")[1]["zrs_zookeeper_addresses"] == 1
