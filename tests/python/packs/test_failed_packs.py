"""Failed packs are logged and shown in the status; packs of ZODB's storage are retried."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
import ZODB
from ZODB.FileStorage import FileStorage as ReferenceStorage
from ZODB.FileStorage.FileStorage import FileStorageError
from ZODB.FileStorage.fspack import PackError
from ZODB.serialize import referencesf

from replicas.changes import UndoInPack, unlinked_child
from replicas.transactions import commit
from replicas.waiting import wait_caught_up

if TYPE_CHECKING:
    from replicas.opening import Opener

DATA = b"N.N."


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if record.levelno == logging.ERROR]
    return [record.getMessage() for record in found if "packing failed" in record.getMessage()]


class Fragile:
    """Extracts references, unless it is set to fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    def __call__(self, data: bytes, oids: Any = None) -> Any:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return referencesf(data, oids)


@pytest.mark.both_engines
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("role", ["primary", "secondary", "cascade"])
def test_a_pack_that_fails_is_logged_and_shown(
    opener: Opener, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    primary = opener.primary()
    packed: Any = primary
    if role == "secondary":
        packed = opener.secondary(primary)
    elif role == "cascade":
        packed = opener.secondary(primary, opener.primary(str(opener.copy)))
    for number in range(3):
        commit(primary, {0: DATA * (number + 1)})
    wait_caught_up(primary, packed)
    assert packed.status()["pack_error"] is None
    references = Fragile()
    references.error = RuntimeError("no references")
    with pytest.raises(RuntimeError, match="no references"):
        packed.pack(time.time() + 1, references)
    assert packed.status()["pack_error"]["message"] == "RuntimeError: no references"
    assert packed.status()["pack_error"]["time"] == pytest.approx(time.time(), abs=60)
    (line,) = failures(caplog)
    assert line.endswith("packing failed: RuntimeError: no references")
    references.error = None
    packed.pack(time.time() + 1, references)
    assert packed.status()["pack_error"] is None


def test_a_pack_during_a_pack_is_not_a_failure(opener: Opener) -> None:
    primary = opener.primary()
    commit(primary, {0: DATA})
    commit(primary, {0: DATA * 2})

    def references(data: bytes, oids: Any = None) -> Any:
        with pytest.raises(FileStorageError):
            primary.pack(time.time() + 1, referencesf)
        assert primary.status()["pack_error"] is None
        return referencesf(data, oids)

    primary.pack(time.time() + 1, references)


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_a_pack_of_zodbs_storage_is_started_again(opener: Opener, role: str) -> None:
    """A concurrent undo made the pack fail, which went unnoticed on a secondary."""
    primary = opener.primary(ReferenceStorage(str(opener.path)))
    db = ZODB.DB(primary)
    packed: Any = primary
    if role == "secondary":
        packed = opener.secondary(primary, ReferenceStorage(str(opener.copy)))
    removal = unlinked_child(db)
    wait_caught_up(primary, packed)
    beside = UndoInPack(db, removal, lambda: wait_caught_up(primary, packed))
    packed.pack(time.time() + 1, beside)
    assert packed.status()["pack_error"] is None
    assert ZODB.DB(packed).open().root()["a"]["child"]["precious"] == 1


def test_a_pack_that_keeps_failing_ends(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    secondary = opener.secondary(opener.primary())
    commit(opener.primary(str(opener.directory / "other.fs")), {0: DATA})
    calls = []

    def pack(*args: Any) -> None:
        calls.append(args)
        raise PackError("a backpointer leads nowhere")

    secondary._StorageWrapper__storage.pack = pack
    with pytest.raises(PackError):
        secondary.pack(1.0, referencesf)
    assert len(calls) == 4
    assert "PackError" in str(secondary.status()["pack_error"])
    assert len(failures(caplog)) == 1
