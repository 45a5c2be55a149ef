"""Faults of zc.zrs, each with the test that it would fail.

====================================================== ====================================
zc.zrs 2.x, 3.1                                        here
====================================================== ====================================
loses empty blobs                                      test_blobs.test_blobs_arrive
sends a blob's record without its file if it cannot    test_a_blob_whose_state_is_unreadable
load the record
ends the stream for good at an extension of a newer    test_golden.test_extension_is_sent_with_its_value,
pickle protocol                                        interop: test_our_primary_ships_extensions
never checks that the start is in the history          test_forks
unpickles what the network sends                       test_a_header_that_would_run_code
loads the class of every record                        test_classes_of_records_are_not_imported
has reconnects delayed by steps of the clock           faults/test_clocks.test_clocks_are_set
silently skips a blob whose file is missing            test_blobs.test_a_missing_blob_ends_the_stream
ships a transaction before it is on disk               test_following.test_nothing_is_sent_before_tpc_finish_returns,
                                                       faults/test_real_disks.test_a_primary_whose_syncs_fail
====================================================== ====================================

It also syncs its file once for each transaction while it catches up, which is slow but not
wrong: see benches/replication.py.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.Connection import TransactionMetaData
from ZODB.utils import p64

from replicas.comparison import assert_identical
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from streams.messages import short, sized
from streams.scripted_primary import playing
from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener

TRAP = "a_class_that_nobody_may_import"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a module that must not be imported."""
    (tmp_path / f"{TRAP}.py").write_text("class Trap:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, TRAP, raising=False)


@pytest.mark.usefixtures("trap")
def test_classes_of_records_are_not_imported(opener: Opener) -> None:
    primary = opener.primary()
    secondary = opener.secondary(primary)
    commit(primary, {0: b"c%s\nTrap\n.}." % TRAP.encode()})
    wait_caught_up(primary, secondary)
    assert_identical(opener.path, opener.copy)
    assert TRAP not in sys.modules


def test_a_blob_whose_state_is_unreadable(tmp_path: Path, opener: Opener) -> None:
    # Its first pickle shows its class, and that it has a file.
    storage = FileStorage(str(opener.path), blob_dir=str(tmp_path / "primary.blobs"))
    primary = opener.primary(storage)
    copy = FileStorage(str(opener.copy), blob_dir=str(tmp_path / "secondary.blobs"))
    secondary = opener.secondary(primary, copy)
    uncommitted = tmp_path / "uncommitted"
    uncommitted.write_bytes(b"contents")
    transaction: Any = TransactionMetaData()
    primary.tpc_begin(transaction)
    record = b"cZODB.blob\nBlob\n.c%s\nGone\n." % TRAP.encode()
    primary.storeBlob(p64(1), bytes(8), record, str(uncommitted), "", transaction)
    primary.tpc_vote(transaction)
    tid = primary.tpc_finish(transaction)
    wait_caught_up(primary, secondary)
    with open(secondary.loadBlob(p64(1), tid), "rb") as file:  # noqa: PTH123 -- a text
        assert file.read() == b"contents"


def test_a_header_that_would_run_code(
    tmp_path: Path, opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    marker = tmp_path / "marker"
    call = b"cposix\nsystem\n(" + short(f"touch {marker}".encode()) + b"tR"
    header = b"(" + short(b"T") + b"(" + call + b"tt."
    with playing(lambda _start: [sized(header)]) as primary:
        opener.secondary(primary.address)
        wait_until(lambda: "malformed header" in caplog.text)
    assert not marker.exists()
    assert next(r.levelno for r in caplog.records if "malformed" in r.getMessage()) == (
        logging.CRITICAL
    )
