"""Secondaries with several addresses or none, and changes of the addresses."""

from __future__ import annotations

import logging
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

import zc.zrs.reactor
from replicas.comparison import assert_identical
from replicas.transactions import commit
from replicas.waiting import DEADLINE, wait_caught_up, wait_until

if TYPE_CHECKING:
    from replicas.opening import Opener
    from zc.zrs.primary import Primary
    from zc.zrs.system.address import Address

# With this delay, waiting before connecting again would be noticed.
NEVER = 10 * DEADLINE
# A shorter connection counts as another failure.
STEADY = 1.5


def nowhere() -> tuple[str, int]:
    """Return an address without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address: tuple[str, int] = server.getsockname()
    return address


def connections(caplog: pytest.LogCaptureFixture) -> int:
    """Return the number of a secondary's connections so far."""
    return sum(
        record.name == "zc.zrs.secondary" and record.getMessage().endswith("Connected")
        for record in caplog.records
    )


def copy_of(opener: Opener, primary: Primary) -> Primary:
    """Return a second primary with the data of the first."""
    path = opener.directory / f"copy{len(list(opener.directory.iterdir()))}.fs"
    shutil.copy(opener.path, path)
    assert primary.address
    return opener.primary(str(path))


@pytest.fixture(params=["tokio", "twisted"])
def reactor(request: pytest.FixtureRequest) -> Any:
    return None if request.param == "tokio" else zc.zrs.reactor.reactor()


def test_no_address_waits_for_one(opener: Opener, reactor: Any) -> None:
    primary = opener.primary()
    tid = commit(primary, {0: b"data"})
    secondary = opener.secondary([], reactor=reactor, reconnect_delay=NEVER)
    secondary.setReplicationAddresses([])
    assert secondary.lastTransaction() < tid
    secondary.setReplicationAddresses([primary.address])
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)


def test_a_primary_that_starts_after_its_secondary_is_soon_found(
    opener: Opener, reactor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zc.zrs")
    address = nowhere()
    secondary = opener.secondary([address], reactor=reactor, reconnect_delay=NEVER)
    failed = "Stopping factory" if reactor else "Cannot connect"
    wait_until(lambda: failed in caplog.text)
    primary = opener.primary(addr=address)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)


def test_a_primary_that_closed_a_connection_is_soon_tried_again(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        secondary = opener.secondary([address], reconnect_delay=NEVER)
        server.settimeout(DEADLINE)
        server.accept()[0].close()
    primary = opener.primary(addr=address)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)


def test_removing_all_addresses_disconnects(opener: Opener, reactor: Any) -> None:
    primary = opener.primary()
    secondary = opener.secondary([primary.address], reactor=reactor, reconnect_delay=NEVER)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    secondary.setReplicationAddresses([])
    wait_until(lambda: not primary._Primary__server.connections)
    commit(primary, {0: b"more"})
    secondary.setReplicationAddresses([primary.address])
    wait_caught_up(primary, secondary)


def test_a_connection_to_one_of_the_addresses_stays(
    opener: Opener, reactor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zc.zrs")
    primary = opener.primary()
    secondary = opener.secondary([primary.address], reactor=reactor, reconnect_delay=NEVER)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    for others in range(3):
        addresses: list[Address] = [nowhere() for _ in range(others)]
        secondary.setReplicationAddresses([*addresses, primary.address])
        tid = commit(primary, {0: b"more"})
        wait_caught_up(primary, secondary)
        assert secondary.lastTransaction() == tid
    assert connections(caplog) == 1


def test_a_removed_address_is_disconnected_at_once(opener: Opener, reactor: Any) -> None:
    first = opener.primary()
    commit(first, {0: b"data"})
    second = copy_of(opener, first)
    tid = commit(second, {0: b"on the second"})
    secondary = opener.secondary([first.address], reactor=reactor, reconnect_delay=NEVER)
    wait_caught_up(first, secondary)
    secondary.setReplicationAddresses([second.address])
    wait_until(lambda: secondary.lastTransaction() == tid)
    wait_until(lambda: not first._Primary__server.connections)


def test_the_next_address_is_tried_at_once(opener: Opener) -> None:
    primary = opener.primary()
    tid = commit(primary, {0: b"data"})
    addresses = [nowhere(), nowhere(), primary.address]
    secondary = opener.secondary(addresses, reconnect_delay=NEVER)
    wait_until(lambda: secondary.lastTransaction() == tid)
    # The list is circular: the last address is followed by the first that answers.
    second = copy_of(opener, primary)
    tid = commit(second, {0: b"on the second"})
    secondary.setReplicationAddresses([second.address, primary.address])
    time.sleep(STEADY)
    primary.close()
    wait_until(lambda: secondary.lastTransaction() == tid)


def test_after_the_last_address_there_is_a_pause(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zc.zrs")
    addresses: list[Address] = [nowhere(), nowhere()]
    secondary = opener.secondary(addresses, reconnect_delay=NEVER)
    wait_until(lambda: caplog.text.count("Cannot connect") == len(addresses))
    secondary.setReplicationAddresses(addresses)  # no change, so it keeps waiting
    secondary.close()
    assert caplog.text.count("Cannot connect") == len(addresses)


def test_invalid_lists_of_addresses(opener: Opener) -> None:
    with pytest.raises(TypeError, match="an address must be"):
        opener.secondary([("127.0.0.1", 1), 5])
    secondary = opener.secondary([])
    with pytest.raises(TypeError, match="an address must be"):
        secondary.setReplicationAddresses([5])  # type: ignore[list-item]
