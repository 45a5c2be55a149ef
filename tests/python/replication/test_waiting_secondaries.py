"""Waiting for a new secondary to catch up, and opening a database on it."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
import transaction
import ZODB
from ZODB.POSException import ReadOnlyError, StorageError

from replicas.opening import LOOPBACK
from replicas.transactions import commit
from replicas.waiting import DEADLINE, wait_until
from zc.zrs.primary import Primary

if TYPE_CHECKING:
    from replicas.opening import Opener


def test_a_database_opens_on_a_new_secondary_that_has_caught_up(opener: Opener) -> None:
    primary = opener.primary()
    database = ZODB.DB(primary)
    with database.transaction() as connection:
        connection.root()["n"] = 42
    secondary = opener.secondary(primary)
    secondary.wait_until_caught_up(DEADLINE)
    status = secondary.status()
    assert status["caught_up"] is True
    assert status["lag_seconds"] == 0
    copy = ZODB.DB(secondary)
    connection = copy.open(transaction.TransactionManager())
    assert connection.root()["n"] == 42
    connection.close()


def test_a_database_on_a_secondary_without_a_root_says_what_to_do(opener: Opener) -> None:
    secondary = opener.secondary(opener.primary())
    with pytest.raises(ReadOnlyError, match=r"secondary\.fs .*wait_until_caught_up\(timeout\)"):
        ZODB.DB(secondary)


def test_waiting_ends_with_the_error(opener: Opener) -> None:
    with socket.create_server(LOOPBACK) as nobody:
        address = nobody.getsockname()
    secondary = opener.secondary(address)
    wait_until(lambda: secondary.status()["last_error"])
    assert secondary.status()["caught_up"] is False
    assert secondary.status()["lag_seconds"] is None
    with pytest.raises(TimeoutError, match=r"secondary\.fs .*after 0\.1 s: .*last error: "):
        secondary.wait_until_caught_up(0.1)


def test_a_secondary_that_had_caught_up_lags_without_its_primary(opener: Opener) -> None:
    primary = opener.primary()
    commit(primary, {1: b"data"})
    secondary = opener.secondary(primary)
    secondary.wait_until_caught_up(DEADLINE)
    primary.close()
    wait_until(lambda: (secondary.status()["lag_seconds"] or 0) > 0)
    assert secondary.status()["caught_up"] is True
    with pytest.raises(TimeoutError):
        secondary.wait_until_caught_up(0)


def test_waiting_for_another_history_fails(opener: Opener) -> None:
    primary = opener.primary()
    commit(primary, {1: b"data"})
    other = opener.closing(Primary(str(opener.copy), LOOPBACK))
    commit(other, {1: b"other data"})
    other.close()
    commit(primary, {1: b"more data"})
    secondary = opener.secondary(primary)
    with pytest.raises(StorageError, match="diverged"):
        secondary.wait_until_caught_up(DEADLINE)


def test_closing_ends_waiting(opener: Opener) -> None:
    with socket.create_server(LOOPBACK) as silent:
        secondary = opener.secondary(silent.getsockname())
        errors: list[Exception] = []

        def wait() -> None:
            try:
                secondary.wait_until_caught_up(None)
            except Exception as error:  # noqa: BLE001 -- it is looked at below
                errors.append(error)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        secondary.close()
        waiting.join(DEADLINE)
        assert not waiting.is_alive()
        (error,) = errors
        assert isinstance(error, StorageError)
        assert "was closed" in str(error)
