"""Forks between ours and an old zc.zrs, and our capability offer, which it ignores."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import ZODB
from ZODB.FileStorage import FileStorage

from interop.old_peers import ZRS25, ZRS31, OldPeer
from interop.ours import committed, data, our_primary, our_secondary
from interop.peers import story
from programs import free_port
from replicas.opening import tcp_address
from replicas.waiting import wait_until
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.interop
both = pytest.mark.parametrize("peer", [ZRS31, ZRS25], ids=str)

tell: Any = story.tell


@both
def test_their_secondary_with_a_fork_is_refused(
    peer: OldPeer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # zc.zrs would send what follows, and the secondary would serve a history that never was.
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    peer.make_file(theirs, 3, 2, 100)
    before = theirs.read_bytes()
    with our_primary(ours, peer) as (primary, db):
        tell(db, 2)
        address = "{}:{}".format(*primary.address)
        with peer.run("zrs_secondary", log, theirs, address, "--reconnect", "0.1") as secondary:
            wait_until(lambda: caplog.text.count("fork") == 1)
            wait_until(lambda: primary.status()["errors_by_kind"].get("fork", 0) > 3)
            assert secondary.end() == 0
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1, "it keeps trying, but logs the error once"
    assert theirs.read_bytes() == before


def caught_up(secondary: Secondary, tid: bytes) -> Callable[[], bool]:
    """Return a function that returns whether it is connected and has this transaction."""
    return lambda: secondary.status()["connected"] and secondary.lastTransaction() == tid


@both
def test_our_capability_offers_do_not_disturb_their_primary(
    peer: OldPeer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"127.0.0.1:{free_port()}"
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    with peer.run("zrs_primary", log, theirs, address, "--story", 3) as primary:
        tid = committed(primary)
        for _ in range(3):
            with our_secondary(ours, address) as secondary:
                wait_until(caught_up(secondary, tid))
        assert primary.end() == 0
    assert data(theirs) == data(ours)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@both
def test_a_chain_of_ours_theirs_and_ours(
    peer: OldPeer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Our leaf first follows their secondary of our primary, then the primary itself, whose
    # pickles of extensions may differ. The histories are the same.
    first, middle, last = (tmp_path / f"{name}.fs" for name in ("first", "middle", "last"))
    address = f"127.0.0.1:{free_port()}"
    with our_primary(first, peer) as (primary, db):
        tid = tell(db, 3, story.EXTENSION)
        host, port = tcp_address(primary)
        arguments = [middle, f"{host}:{port}", "--reconnect", "0.1"]
        with peer.run("zrs_secondary", tmp_path / "log", *arguments) as secondary:
            secondary.wait_for(f"TID {tid.hex()}")
            assert secondary.end() == 0
        with (
            peer.run("zrs_primary", tmp_path / "log", middle, address),
            our_secondary(last, address) as follower,
        ):
            wait_until(lambda: follower.lastTransaction() == tid)
        shutil.copy(last, tmp_path / "before.fs")
        tid = tell(db, 1)
        follower = Secondary(str(last), (host, port), reconnect_delay=0.1)
        wait_until(lambda: follower.lastTransaction() == tid)
        follower.close()
    assert last.read_bytes().startswith((tmp_path / "before.fs").read_bytes())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    db = ZODB.DB(FileStorage(str(last)))
    db.close()
