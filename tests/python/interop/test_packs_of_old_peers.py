"""Our and their primaries, packed before or during replication."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from ZODB.serialize import referencesf

from interop.old_peers import ZRS25, ZRS31, OldPeer
from interop.ours import (
    blob_directory,
    blob_files,
    committed,
    our_primary,
    our_secondary,
    spell,
    transactions,
    without_empty,
)
from interop.peers import story
from programs import free_port
from replicas.comparison import assert_at_least
from replicas.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop
both = pytest.mark.parametrize("peer", [ZRS31, ZRS25], ids=str)

tell: Any = story.tell
tell_blobs: Any = story.tell_blobs


def assert_packed(path: Path, least: int = 1) -> None:
    """Fail unless the file was packed: packed transactions are marked."""
    marked = [found for found in transactions(path) if found.status == "p"]
    assert len(marked) >= least


def assert_has_all_that_is_left(theirs: Path, ours: Path) -> None:
    """Fail unless a secondary has at least the data of its packed primary."""
    for path in theirs, ours:
        transactions(path)  # with the magic that this ZODB opens
    assert_at_least(theirs, ours)


@both
def test_their_packed_primary(peer: OldPeer, tmp_path: Path) -> None:
    """Packed before we connect: the remaining transactions and later commits arrive."""
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    address = f"127.0.0.1:{free_port()}"
    arguments = [theirs, address, "--story", 2, "--blobs", blob_directory(theirs)]
    with peer.run("zrs_primary", log, *arguments) as primary:
        committed(primary)
        assert primary.end() == 0
    with (
        peer.run("zrs_primary", log, *arguments, "--pack-first") as primary,
        our_secondary(ours, address, blobs=True) as secondary,
    ):
        tid = committed(primary)
        wait_until(lambda: secondary.lastTransaction() == tid)
        assert primary.end() == 0
    assert_packed(theirs, 2)
    assert transactions(ours) == transactions(theirs)
    assert blob_files(ours) == blob_files(theirs)


@both
def test_their_primary_packs_while_streaming(peer: OldPeer, tmp_path: Path) -> None:
    """Our secondary keeps what it has, and continues on this connection and the next."""
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    address = f"127.0.0.1:{free_port()}"
    arguments = [theirs, address, "--story", 1, "--blobs", blob_directory(theirs)]
    with our_secondary(ours, address, blobs=True) as secondary:
        for _ in range(2):
            with peer.run("zrs_primary", log, *arguments, "--pack") as primary:
                tid = committed(primary)
                wait_until(lambda: secondary.lastTransaction() == tid)  # noqa: B023
                assert primary.end() == 0
        assert secondary.status()["state"] != "diverged"
        assert secondary.status()["errors_by_kind"].keys() <= {"network", "cannot connect"}
    assert_packed(theirs)
    assert theirs.stat().st_size < ours.stat().st_size
    assert_has_all_that_is_left(theirs, ours)
    assert blob_files(theirs).items() <= blob_files(ours).items()


@both
def test_our_packed_primary(peer: OldPeer, tmp_path: Path) -> None:
    """Packed before they connect, and again during replication."""
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    again = tmp_path / "again.fs"
    with our_primary(ours, peer, blobs=True) as (primary, db):
        tell(db, 2)
        tell_blobs(db)
        primary.pack(time.time(), referencesf)
        assert_packed_live(ours)
        with peer.run(
            "zrs_secondary", log, theirs, spell(primary), "--blobs", blob_directory(theirs)
        ) as secondary:
            tid = tell_blobs(db)
            secondary.wait_for(f"TID {tid.hex()}")
            transactions_before = db.storage.iterator()
            expected = [found.tid for found in transactions_before]
            primary.pack(time.time(), referencesf)
            tid = tell(db, 1)
            secondary.wait_for(f"TID {tid.hex()}")
            assert secondary.end() == 0
        with peer.run(
            "zrs_secondary", log, again, spell(primary), "--blobs", blob_directory(again)
        ) as secondary:
            secondary.wait_for(f"TID {tid.hex()}")
            assert secondary.end() == 0
    assert_has_all_that_is_left(ours, theirs)
    assert [found.tid for found in transactions(theirs)][: len(expected)] == expected
    assert transactions(again) == transactions(ours)
    assert blob_files(again) == without_empty(blob_files(ours))


def assert_packed_live(path: Path) -> None:
    """Fail unless a file in use was packed."""
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    assert_packed(copy)
