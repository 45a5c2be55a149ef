"""A network that cuts, damages and delays connections, during commits."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faults.network import KINDS, Damage, Network
from faults.world import World
from replicas.comparison import assert_identical, assert_prefix, assert_prefix_of_live_file
from replicas.opening import tcp_address
from replicas.processes import run
from replicas.proxy import Proxy
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from streams.sockets import connect, receive_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replicas.opening import Opener
    from zc.zrs.primary import Primary

MANY = "ZRS_FAULTS" in os.environ
RECONNECT_DELAY = 0.01


@contextlib.contextmanager
def commits(primary: Primary) -> Iterator[None]:
    """Commit small transactions in another thread."""
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.wait(0.005):
            number += 1
            commit(primary, {number % 7: b"%d" % number * (number % 40 + 1)})

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def is_soon(condition: Callable[[], object]) -> bool:
    """Return whether a condition becomes true within a generous time."""
    end = time.monotonic() + 1.5
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def transaction_length(primary: Primary, start: bytes) -> int:
    """Return the number of bytes in a stream up to the end of the transaction after `start`."""
    # The greeting, the transaction, its two records and its end.
    messages = 5
    knock = [b""] * 16
    with connect(tcp_address(primary), b"zrs2.1", start, *knock) as client:
        return len(receive_messages(client, messages))


def test_a_cut_at_every_byte_of_a_transaction(opener: Opener) -> None:
    primary = opener.primary()
    first = opener.secondary(primary)
    start = commit(primary, {0: b"before"})
    wait_caught_up(primary, first)
    first.close()
    commit(primary, {0: b"data", 1: b"more data"}, user="user", extension={"key": [1]})
    wanted = transaction_length(primary, start)
    assert wanted > 200
    lengths: list[int] = []

    def note(_: int) -> None:
        lengths.append(assert_prefix(opener.path, opener.copy))

    with contextlib.closing(Proxy(tcp_address(primary), range(wanted), note)) as proxy:
        second = opener.secondary(proxy.address, reconnect_delay=RECONNECT_DELAY)
        wait_caught_up(primary, second)
        assert proxy.connections == wanted + 1
    assert lengths == [1] * wanted
    assert_identical(opener.path, opener.copy)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_never_gets_into_a_file(opener: Opener, kind: str) -> None:
    """Damaged data are refused, and sent again over the next connection."""
    number = 400 if MANY else 25
    chance = random.Random(kind)  # noqa: S311 -- positions, not secrets
    damages = [Damage(kind, chance.randrange(1500)) for _ in range(number)]  # type: ignore[arg-type]
    primary = opener.primary()
    with contextlib.closing(Network(tcp_address(primary), damages)) as network:
        secondary = opener.secondary(network.address, reconnect_delay=RECONNECT_DELAY)
        with commits(primary):
            seen, cuts = 0, 0
            while network.connections <= number:
                if not is_soon(lambda: network.connections > seen):  # noqa: B023
                    # If a length is much too large, the secondary waits for the rest.
                    network.cut()
                    cuts += 1
                seen = network.connections
                assert_prefix_of_live_file(opener.path, opener.copy)
        wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)
    # All other damage was noticed.
    noticed = secondary.status()["errors_by_kind"].get("protocol", 0)
    assert noticed + cuts >= number * 0.9
    assert noticed > cuts


def test_a_partition_that_heals(tmp_path: Path) -> None:
    """Both sides wait, commits continue, and delayed data arrive."""
    with World(tmp_path) as world:
        network = Network(("127.0.0.1", world.port))
        with contextlib.closing(network):
            world.through = network.address[1]
            world.start("primary")
            world.start("secondary")
            for cut in False, True:
                world.wait_for_replication()
                network.part()
                world.wait_for_commits()
                if cut:
                    network.cut()
                network.heal()
            world.wait_for_replication()
            world.end()


def test_a_primary_that_comes_back_elsewhere_behind_the_same_name(opener: Opener) -> None:
    """The name is a symbolic link to a UNIX socket, which is redirected to another one."""
    name = opener.directory / "name"
    primary = None
    secondary = None
    for number in range(4):
        place = opener.directory / f"socket{number}"
        primary = opener.primary(addr=str(place))
        name.unlink(missing_ok=True)
        name.symlink_to(place)
        if secondary is None:
            secondary = opener.secondary(str(name), reconnect_delay=RECONNECT_DELAY)
        with commits(primary):
            wait_until(lambda: secondary.status()["connections"] > number)  # noqa: B023
        wait_caught_up(primary, secondary)
        primary.close()
    assert_identical(opener.path, opener.copy)


def test_many_secondaries_at_once(opener: Opener) -> None:
    count = 300 if MANY else 60
    primary = opener.primary()
    copies = [opener.directory / f"copy{number}.fs" for number in range(count)]
    with commits(primary):
        secondaries = [opener.secondary(primary, str(copy)) for copy in copies]
        wait_until(lambda: primary.status()["connections"] == count)
    for secondary in secondaries:
        wait_caught_up(primary, secondary)
    status = primary.status()
    assert len(status["peers"]) == count
    assert status["errors"] == 0
    for secondary in secondaries:
        secondary.close()
    for copy in copies:
        assert_identical(opener.path, copy)


STALLED = """
def memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

primary = Primary(PRIMARY, LOOPBACK, close_deadline=0.1)
clients = [Client(primary.address, receive_buffer=4096) for _ in range(20)]
wait_until(lambda: primary.status()["connections"] == 20)
for count in 60, 100:
    for n in range(count):
        commit(primary, {n: bytes(1 << 20)})
    sent = None
    while sent != (sent := primary.status()["bytes"]):
        time.sleep(0.5)
    say(memory())
lags = [peer["lag_transactions"] for peer in primary.status()["peers"]]
say(min(lags))
for client in clients:
    client.close()
primary.close()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_peers_that_do_not_read_cost_bounded_memory(tmp_path: Path) -> None:
    """Twenty peers cost the same memory, whether 60 or 160 MB wait for each."""
    before, after, lag = map(int, run(STALLED, tmp_path).split())
    assert lag > 90
    assert after - before < 20 << 10  # of the 2,000 MB that they lack
