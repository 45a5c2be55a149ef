"""Heartbeats: what a secondary knows of an idle primary."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from persistent.TimeStamp import TimeStamp

from faults.network import Network
from replicas.opening import tcp_address
from replicas.statuses import last_error
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.status.observer import Observer
from zc.zrs.status.readiness import judge

if TYPE_CHECKING:
    import pytest

    from replicas.opening import Opener
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary


def knows_the_last_transaction(secondary: Secondary, primary: Primary) -> bool:
    """Return whether its status has the primary's last transaction, and no lag."""
    status = secondary.status()
    last = f"0x{primary.lastTransaction().hex()}"
    return (status["primary_tid"], status["lag_transactions"]) == (last, 0)


def test_a_secondary_learns_the_primarys_position(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    for number in range(3):
        commit(primary, {number: b"data"})
        wait_until(lambda: knows_the_last_transaction(secondary, primary), "it is told")
    assert secondary.status()["state"] == "following"


def test_a_silent_primary_is_noticed(opener: Opener) -> None:
    """The connection stays open, so the secondary would keep reporting that it follows."""
    primary = opener.primary()
    commit(primary, {0: b"data"})
    network = opener.closing(Network(tcp_address(primary)))
    secondary = opener.secondary(network.address)
    observer = Observer(secondary.status, "secondary", "copy")
    wait_until(lambda: judge(observer.snapshot()).ready)
    wait_until(lambda: knows_the_last_transaction(secondary, primary), "it is told")
    network.part()
    commit(primary, {0: b"more data"})
    wait_until(lambda: secondary.status()["state"] == "silent", "it is noticed")
    snapshot = observer.snapshot()
    assert snapshot.lag is not None
    assert snapshot.lag > 0
    (reason,) = judge(snapshot, limit=0.001).reasons
    assert "silent; connected to 127.0.0.1:" in reason
    assert reason.endswith(", but no data received")
    assert secondary.status()["connected"]
    network.heal()
    wait_caught_up(primary, secondary)
    wait_until(lambda: judge(observer.snapshot()).ready, "it is over")
    assert secondary.status()["connections"] == 1


def test_a_server_that_accepts_and_sends_nothing_is_not_followed(opener: Opener) -> None:
    """The system still accepts connections for a stopped process."""
    with socket.create_server(("127.0.0.1", 0)) as stopped:
        secondary = opener.secondary(stopped.getsockname())
        wait_until(lambda: secondary.status()["state"] == "quiet", "it is noticed")
        observer = Observer(secondary.status, "secondary", "copy")
        (reason,) = judge(observer.snapshot()).reasons
        assert reason.startswith("not caught up since start: quiet; connected to ")
        assert secondary.status()["lag_seconds"] is None
        later = Observer(secondary.status, "secondary", "copy", lambda: time.time() + 3600)
        assert not judge(later.snapshot()).ready  # the copy is empty
        secondary.close()


def test_a_transaction_from_the_future_hides_no_lag() -> None:
    """Tids of a primary with a wrong clock are not compared with this machine's clock."""
    status: Any = {
        "state": "following",
        "tid": f"0x{TimeStamp(2099, 1, 1).raw().hex()}",
        "primary_tid": f"0x{TimeStamp(2099, 1, 2).raw().hex()}",
        "lag_transactions": None,
        "pulse": 1.0,
        "since": 1000.0,
        "last_received": 1000.0,
    }
    now = [1000.0]
    observer = Observer(status.copy, "secondary", "copy", lambda: now[0])
    assert observer.snapshot().lag is None
    assert not observer.snapshot().caught_up
    status.update(tid=status["primary_tid"], lag_transactions=0)
    assert observer.snapshot().lag == 0
    status.update(state="waiting", lag_transactions=None, pulse=None)
    now[0] = 1090.0
    assert observer.snapshot().lag == 90


def test_the_lag_counts_from_the_last_heartbeat() -> None:
    """Later commits are unknown, and may have happened immediately after it."""
    status: Any = {
        "state": "following",
        "tid": f"0x{TimeStamp(1970, 1, 1, 0, 1, 0).raw().hex()}",
        "primary_tid": f"0x{TimeStamp(1970, 1, 1, 0, 1, 0).raw().hex()}",
        "lag_transactions": 0,
        "pulse": 1.0,
        "since": 500.0,
        "last_received": 1000.0,
    }
    now = [1001.5]
    observer = Observer(lambda: status, "secondary", "copy", lambda: now[0])
    assert observer.snapshot().lag == 0
    for moment in 1003.0, 1004.0:
        now[0] = moment
        assert observer.snapshot().lag == moment - 1000
    status.update(state="silent", lag_transactions=None)
    now[0] = 1010.0
    assert observer.snapshot().lag == 10


def test_likely_causes_of_an_immediate_disconnect_are_logged(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """The secondary used to log nothing."""
    primary = opener.primary(allow=["10.1.2.3"])
    secondary = opener.secondary(primary)
    wait_until(lambda: secondary.status()["errors_by_kind"].get("refused"), "it is told")
    assert "closed the connection without a reason" in last_error(secondary)["message"]
    assert "closed the connection without a reason" in caplog.text


class SlowDatabase:
    """A database that processes notifications slowly."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def invalidate(self, *_: Any) -> None:
        self.goes_on.wait(60)

    def transform_record_data(self, data: bytes) -> bytes:
        return data

    untransform_record_data = transform_record_data


def test_a_busy_secondary_does_not_report_that_it_follows(opener: Opener) -> None:
    """Heartbeats then wait in the queue behind the current work."""
    primary = opener.primary()
    commit(primary, {0: b"data"})
    secondary = opener.secondary(primary)
    wait_until(lambda: knows_the_last_transaction(secondary, primary), "it is told")
    database = SlowDatabase()
    secondary.registerDB(database)
    commit(primary, {0: b"more data"})
    try:
        # Its last transaction was committed some seconds before.
        wait_until(lambda: secondary.status()["state"] == "catching up", "it is noticed")
        assert Observer(secondary.status, "secondary", "copy").snapshot().lag != 0
    finally:
        database.goes_on.set()
    wait_until(lambda: knows_the_last_transaction(secondary, primary), "it goes on")
    wait_until(lambda: secondary.status()["state"] == "following")


def test_an_idle_connection_is_ready_after_a_while() -> None:
    status: Any = {
        "state": "quiet",
        "tid": f"0x{TimeStamp(1970, 1, 1, 0, 1, 0).raw().hex()}",
        "peer": "127.0.0.1:8100",
        "since": 1000.0,
        "last_received": None,
        "last_error": None,
    }
    now = [1010.0]
    observer = Observer(status.copy, "secondary", "copy", lambda: now[0])
    (reason,) = judge(observer.snapshot()).reasons
    assert reason.startswith("not caught up since start: quiet; connected to ")
    assert observer.snapshot().lag is None
    now[0] = 1031.0
    assert judge(observer.snapshot()).ready
    assert observer.snapshot().lag is None
    status["state"] = "waiting"
    now[0] = 1131.0
    assert observer.snapshot().lag == 100
    assert not judge(observer.snapshot()).ready
    # A new connection takes as long to be trusted as the first one.
    status.update(state="quiet", since=1130.0)
    assert not judge(observer.snapshot()).ready
    now[0] = 1161.0
    assert judge(observer.snapshot()).ready
