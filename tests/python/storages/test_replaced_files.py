"""A Data.fs that is replaced beneath a running server is neither served nor packed."""

from __future__ import annotations

import contextlib
import logging
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.FileStorage import FileStorage as ReferenceStorage
from ZODB.POSException import StorageSystemError
from ZODB.serialize import referencesf
from ZODB.utils import z64

import zc.zrs.reactor
from replicas.transactions import commit, read_transactions
from replicas.waiting import wait_caught_up, wait_until
from zc.zrs.filestorage import FileStorage
from zc.zrs.status.metrics import measures
from zc.zrs.status.observer import Observer, Snapshot
from zc.zrs.status.readiness import judge
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener

DATA = b"N.N."
REPLACED = "the Data.fs is not the file that the server has open: it was removed or replaced"
LATER = 2.0**32  # as a pack time: packs everything


def other_history(path: Path) -> Path:
    """Make a copy of a database with an additional transaction."""
    other = path.with_name("other.fs")
    shutil.copy(path, other)
    with contextlib.closing(FileStorage(str(other))) as storage:
        commit(storage, {0: DATA + b"other"})
    return other


def critical(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL
    ]


def measured(snapshot: Snapshot, name: str) -> list[tuple[float, dict[str, str]]]:
    return [(one.value, one.labels) for one in measures(snapshot) if one.name == name]


@pytest.mark.both_engines
@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.usefixtures("engine")
def test_a_replaced_file_is_noticed_and_not_served(
    opener: Opener, caplog: pytest.LogCaptureFixture, *, removed: bool
) -> None:
    primary = opener.primary()
    commit(primary, {0: DATA})
    assert primary.status()["file_replaced"] is False
    aside = opener.path.with_name("aside.fs")
    other = other_history(opener.path)
    opener.path.rename(aside)
    if not removed:
        other.rename(opener.path)
    wait_until(lambda: primary.status()["file_replaced"])
    tid = commit(primary, {0: DATA + b"acknowledged"})
    secondary = opener.secondary(primary)
    if not removed:
        wait_until(lambda: primary.status()["errors_by_kind"].get("stream", 0) > 1)
    assert read_transactions(opener.copy) == []
    (line,) = critical(caplog)
    assert str(opener.path) in line
    snapshot = Observer(primary.status, "primary", "").snapshot()
    assert measured(snapshot, "zrs_file_replaced") == [(1, {"role": "primary"})]
    assert judge(snapshot).reasons == [REPLACED]

    # When the file is back, everything works, and acknowledged transactions are in it.
    aside.replace(opener.path)
    wait_until(lambda: not primary.status()["file_replaced"])
    snapshot = Observer(primary.status, "primary", "").snapshot()
    assert measured(snapshot, "zrs_file_replaced") == [(0, {"role": "primary"})]
    wait_until(lambda: secondary.lastTransaction() == tid)


def test_a_stream_does_not_go_on_in_another_file(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    commit(primary, {0: DATA})
    wait_caught_up(primary, secondary)
    other_history(opener.path).rename(opener.path)
    for number in range(3):
        commit(primary, {1: DATA * (number + 1)})
        # It continues with the open file, to which the primary commits.
        wait_caught_up(primary, secondary)
    wait_until(lambda: primary.status()["file_replaced"])
    found = [transaction.tid for transaction in read_transactions(opener.copy)]
    assert found == [transaction.tid for transaction in primary.iterator()]


@pytest.mark.parametrize("packer", ["native", "python"])
def test_another_file_is_not_packed(opener: Opener, packer: str) -> None:
    options: dict[str, Any] = {}
    if packer == "python":
        options = {"packer": ReferenceStorage.packer}
    storage = opener.closing(open_file_storage(str(opener.path), **options))
    for number in range(3):
        commit(storage, {0: DATA * (number + 1)})
    other_history(opener.path).rename(opener.path)
    content = opener.path.read_bytes()
    for _ in range(2):
        with pytest.raises(StorageSystemError, match="not the file that the storage has open"):
            storage.pack(LATER, referencesf)
    assert opener.path.read_bytes() == content
    assert not opener.path.with_name("primary.fs.pack").exists()
    assert storage.load(z64)[0] == DATA * 3
    commit(storage, {0: DATA})


def test_a_primary_does_not_pack_another_file_of_zodbs_storage(opener: Opener) -> None:
    primary = opener.primary(ReferenceStorage(str(opener.path)))
    for number in range(3):
        commit(primary, {0: DATA * (number + 1)})
    other_history(opener.path).rename(opener.path)
    content = opener.path.read_bytes()
    with pytest.raises(StorageSystemError, match="not the file that the storage has open"):
        primary.pack(LATER, referencesf)
    assert opener.path.read_bytes() == content
    assert not opener.path.with_name("primary.fs.pack").exists()
    commit(primary, {0: DATA})


@pytest.mark.both_engines
@pytest.mark.usefixtures("engine")
def test_a_secondarys_replaced_file_is_noticed(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    commit(primary, {0: DATA})
    wait_caught_up(primary, secondary)
    assert secondary.status()["file_replaced"] is False
    other_history(opener.copy).rename(opener.copy)
    # Without a request for the status.
    wait_until(lambda: critical(caplog))
    assert secondary.status()["file_replaced"] is True
    assert secondary.status()["file_replaced"] is True
    snapshot = Observer(secondary.status, "secondary", "").snapshot()
    assert measured(snapshot, "zrs_file_replaced") == [(1, {"role": "secondary"})]
    (line,) = critical(caplog)
    assert str(opener.copy) in line
    with pytest.raises(StorageSystemError, match="not the file"):
        secondary.pack(LATER, referencesf)


def test_a_primary_on_a_reactor_does_not_serve_another_file(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary(reactor=zc.zrs.reactor.reactor())
    commit(primary, {0: DATA})
    assert primary.status()["file_replaced"] is False
    other_history(opener.path).rename(opener.path)
    wait_until(lambda: critical(caplog))
    assert primary.status()["file_replaced"] is True
    opener.secondary(primary)
    wait_until(lambda: primary.status()["connections"] == 0)
    assert read_transactions(opener.copy) == []


@pytest.mark.both_engines
@pytest.mark.usefixtures("engine")
def test_its_own_packs_are_not_replacements(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    for number in range(10):
        commit(primary, {0: DATA * (number + 1)})
        primary.pack(LATER, referencesf)
        assert not primary.status()["file_replaced"]
        opener.secondary(primary, str(opener.directory / f"copy{number}.fs"))
        commit(primary, {0: DATA})
        wait_caught_up(primary, secondary)
    assert critical(caplog) == []
    assert primary.status()["errors"] == 0
