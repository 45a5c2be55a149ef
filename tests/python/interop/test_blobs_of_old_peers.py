"""Blobs between ours and zc.zrs in both directions; zc.zrs loses empty ones."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from interop.old_peers import ZRS25, ZRS31, OldPeer
from interop.ours import (
    blob_directory,
    blob_files,
    committed,
    data,
    our_primary,
    our_secondary,
    spell,
    values,
    without_empty,
)
from interop.peers import story
from programs import free_port
from replicas.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop
both = pytest.mark.parametrize("peer", [ZRS31, ZRS25], ids=str)

tell: Any = story.tell
tell_blobs: Any = story.tell_blobs

REVISIONS = len(story.BLOBS) + 4
"""How many blob files one telling leaves: changes and the undo of one have their own."""


@both
def test_their_blobs_arrive(peer: OldPeer, tmp_path: Path) -> None:
    """While connected, and after their primary was killed and restarted."""
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    address = f"127.0.0.1:{free_port()}"
    arguments = [theirs, address, "--story", 1, "--blobs", blob_directory(theirs)]
    with our_secondary(ours, address, blobs=True) as secondary:
        for times in 1, 2:
            with peer.run("zrs_primary", log, *arguments) as primary:
                tid = committed(primary)
                wait_until(lambda: secondary.lastTransaction() == tid)  # noqa: B023
            expected = blob_files(theirs)
            assert len(expected) == times * REVISIONS
            assert b"" in expected.values()
            assert blob_files(ours) == expected
    assert data(ours) == data(theirs)


@both
def test_their_blobs_with_extensions_arrive(peer: OldPeer, tmp_path: Path) -> None:
    """The whole history is sent to an empty secondary."""
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    address = f"127.0.0.1:{free_port()}"
    arguments = [theirs, address, "--story", 1, "--extension"]
    with peer.run("zrs_primary", log, *arguments, "--blobs", blob_directory(theirs)) as primary:
        tid = committed(primary)
        with our_secondary(ours, address, blobs=True) as secondary:
            wait_until(lambda: secondary.lastTransaction() == tid)
        assert primary.end() == 0
    assert blob_files(ours) == blob_files(theirs)
    assert values(ours) == values(theirs)


@both
def test_our_blobs_arrive_at_theirs(peer: OldPeer, tmp_path: Path) -> None:
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    with our_primary(ours, peer, blobs=True) as (primary, db):
        arguments = [theirs, spell(primary), "--reconnect", "0.1"]
        arguments += ["--blobs", str(blob_directory(theirs))]
        tell_blobs(db)
        with peer.run("zrs_secondary", log, *arguments) as secondary:
            tid = tell_blobs(db)
            secondary.wait_for(f"TID {tid.hex()}")
        # After a kill and restart it receives the missed transactions and later ones.
        tell(db, 1)
        tell_blobs(db)
        with peer.run("zrs_secondary", log, *arguments) as secondary:
            tid = tell_blobs(db)
            secondary.wait_for(f"TID {tid.hex()}")
            assert secondary.end() == 0
    expected = blob_files(ours)
    assert len(expected) == 4 * REVISIONS
    assert blob_files(theirs) == without_empty(expected)
    assert data(theirs) == data(ours)


@both
def test_their_secondary_without_blobs_is_refused(
    peer: OldPeer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would serve blobs that it does not have."""
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    with our_primary(ours, peer, blobs=True) as (primary, db):
        tell_blobs(db)
        with peer.run("zrs_secondary", log, theirs, spell(primary)) as secondary:
            wait_until(lambda: "Require >= 2.1" in caplog.text)
            assert secondary.end() == 0
        assert primary.status()["errors_by_kind"] == {"protocol": 1}
    assert len(theirs.read_bytes()) == len(b"FS30")


@both
def test_records_of_their_blobs_go_to_a_secondary_without_blobs(
    peer: OldPeer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With `blobs none`, for files on shared storage."""
    caplog.set_level(logging.ERROR)
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    address = f"127.0.0.1:{free_port()}"
    arguments = [theirs, address, "--story", 1, "--blobs", blob_directory(theirs)]
    with (
        peer.run("zrs_primary", log, *arguments) as primary,
        our_secondary(ours, address, blob_option="none") as secondary,
    ):
        tid = committed(primary)
        wait_until(lambda: secondary.lastTransaction() == tid)
        assert primary.end() == 0
    assert data(ours) == data(theirs)
    assert not blob_directory(ours).exists()
