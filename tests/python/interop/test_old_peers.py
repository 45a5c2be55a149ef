"""zc.zrs 3.1 and 2.5 with ours: their primary and our secondary, and vice versa."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.utils import z64

from interop.old_peers import ZRS25, ZRS31, OldPeer, make_file
from interop.ours import (
    KEEP_ALIVE_DELAY,
    committed,
    data,
    our_primary,
    our_secondary,
    spell,
    values,
)
from interop.peers import story
from interop.peers.story import EXTENSION
from programs import ZRS, free_port, running
from replicas.waiting import DEADLINE, wait_until
from zc.zrs._zrs import TransactionReader
from zc.zrs.status.observer import Observer
from zc.zrs.status.readiness import judge

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop
both = pytest.mark.parametrize("peer", [ZRS31, ZRS25], ids=str)

tell: Any = story.tell  # without annotations, because Python 2 runs it too
tell_large: Any = story.tell_large

KEEP_ALIVE = ("--keep-alive-delay", "0.05", "--reconnect-delay", "0.1")
THEIR_KEEP_ALIVE = ("--keep-alive", "0.05", "--reconnect", "0.1")


@pytest.fixture
def address() -> str:
    # Their primaries cannot pick a free port themselves.
    return f"127.0.0.1:{free_port()}"


@both
def test_their_primary_is_killed_and_comes_back(
    peer: OldPeer, address: str, tmp_path: Path
) -> None:
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    with our_secondary(ours, address) as secondary:
        with peer.run("zrs_primary", log, theirs, address, "--story", 3) as primary:
            tid = committed(primary)
            wait_until(lambda: secondary.lastTransaction() == tid)
        with peer.run("zrs_primary", log, theirs, address, "--story", 2) as primary:
            last = committed(primary)
            wait_until(lambda: secondary.lastTransaction() == last)
            assert primary.end() == 0
    assert tid < last
    assert data(theirs) == data(ours)


@both
def test_their_idle_primary(peer: OldPeer, address: str, tmp_path: Path) -> None:
    """A secondary that has everything receives nothing from it, and is ready nevertheless."""
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    peer.make_file(theirs, 3, 2, 100)
    with peer.run("zrs_primary", log, theirs, address) as primary:
        with our_secondary(ours, address) as secondary:
            secondary.wait_until_caught_up(DEADLINE)
        with our_secondary(ours, address) as secondary:
            observer = Observer(secondary.status, "secondary", "copy")
            wait_until(lambda: secondary.status()["state"] == "quiet")
            assert secondary.status()["lag_seconds"] is None
            assert not judge(observer.snapshot()).ready
            secondary.wait_until_caught_up(DEADLINE)
            assert judge(observer.snapshot()).ready
            assert secondary.status()["caught_up"] is True
            assert secondary.status()["lag_seconds"] is None
        command = [*ZRS, "bootstrap", str(ours), "--from", address, "--no-check"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "has sent nothing for 30 seconds" in result.stderr
        assert primary.end() == 0
    assert data(theirs) == data(ours)


@both
def test_their_primary_to_our_command(peer: OldPeer, address: str, tmp_path: Path) -> None:
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    arguments = [theirs, address, "--story", 2, "--extension"]
    command = [*ZRS, "secondary", ours, "--from", address, *KEEP_ALIVE]
    with (
        peer.run("zrs_primary", log, *arguments) as primary,
        running(command, tmp_path / "our log") as secondary,
    ):
        tid = committed(primary)
        wait_until(lambda: last_tid(ours) == tid)
        assert secondary.end() == 0
        assert primary.end() == 0
        assert "CRITICAL" not in secondary.log
    expected = values(theirs)
    assert values(ours) == expected
    assert [extension for *_, extension, _ in expected[1:]] == [EXTENSION] * (len(expected) - 1)


@both
def test_their_primary_killed_while_we_catch_up(
    peer: OldPeer, address: str, tmp_path: Path
) -> None:
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    peer.make_file(theirs, 30, 2, 1 << 20)
    expected = data(theirs)
    with our_secondary(ours, address) as secondary:
        with peer.run("zrs_primary", log, theirs, address):
            wait_until(lambda: len(secondary) > 0)
        # Wherever the connection broke, a prefix has arrived.
        size = secondary.getSize()
        assert expected.startswith(ours.read_bytes()[:size])
        with peer.run("zrs_primary", log, theirs, address):
            wait_until(lambda: len(secondary) == 60)
    assert data(ours) == expected


@both
def test_our_primary_to_their_secondary(
    peer: OldPeer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "zc.zrs.primary")
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    with our_primary(ours, peer) as (primary, db):
        address = "{}:{}".format(*primary.address)
        arguments = [theirs, address, *THEIR_KEEP_ALIVE]
        with peer.run("zrs_secondary", log, *arguments) as secondary:
            tid = tell(db, 3)
            secondary.wait_for(f"TID {tid.hex()}")
            wait_until(lambda: "keep-alive" in caplog.text)
        # After a kill and restart it receives the missed transactions.
        tell(db, 2)
        with peer.run("zrs_secondary", log, *arguments) as secondary:
            last = tell(db, 1)
            secondary.wait_for(f"TID {last.hex()}")
            assert secondary.end() == 0
    assert data(theirs) == data(ours)


@both
def test_our_primary_ships_extensions(peer: OldPeer, tmp_path: Path) -> None:
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    with our_primary(ours, peer) as (primary, db):
        address = "{}:{}".format(*primary.address)
        with peer.run("zrs_secondary", log, theirs, address) as secondary:
            tid = tell(db, 1, EXTENSION)
            secondary.wait_for(f"TID {tid.hex()}", timeout=10)
            assert secondary.end() == 0
    expected = values(ours)
    assert values(theirs) == expected
    assert [extension for *_, extension, _ in expected[1:]] == [EXTENSION] * (len(expected) - 1)


@both
def test_our_command_is_killed_and_comes_back(
    peer: OldPeer, address: str, tmp_path: Path
) -> None:
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    make_file(sys.executable, ours, 5, 2, 3 << 20)
    wire_pickles = "python2" if peer.python2 else "python3"
    command = [*ZRS, "primary", ours, "--listen", address, "--wire-pickles", wire_pickles]
    our_log = tmp_path / "our log"
    with peer.run("zrs_secondary", log, theirs, address, *THEIR_KEEP_ALIVE) as secondary:
        with running(command, our_log) as primary:
            secondary.wait_for(f"TID {last_tid(ours).hex()}")
            assert primary.end(signal.SIGKILL) == -signal.SIGKILL
        db = ZODB.DB(FileStorage(str(ours)))
        tid = tell(db, 1)
        db.close()
        with running(command, our_log) as primary:
            secondary.wait_for(f"TID {tid.hex()}")
            assert primary.end() == 0
        assert secondary.end() == 0
    assert "ERROR" not in our_log.read_text()
    assert data(theirs) == data(ours)


LARGE = 20
"""The MiB of a record that is far beyond any buffer on the way."""


@both
def test_their_very_large_records(peer: OldPeer, address: str, tmp_path: Path) -> None:
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    arguments = [theirs, address, "--story", 1, "--large", LARGE]
    with (
        our_secondary(ours, address) as secondary,
        peer.run("zrs_primary", log, *arguments) as primary,
    ):
        tid = committed(primary)
        wait_until(lambda: secondary.lastTransaction() == tid)
        assert primary.end() == 0
    assert theirs.stat().st_size > 3 * LARGE << 20
    assert data(ours) == data(theirs)


@both
def test_our_very_large_records(peer: OldPeer, tmp_path: Path) -> None:
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    with our_primary(ours, peer) as (primary, db):
        with peer.run("zrs_secondary", log, theirs, spell(primary)) as secondary:
            tid = tell_large(db, LARGE)
            secondary.wait_for(f"TID {tid.hex()}")
            assert secondary.end() == 0
        assert primary.status()["errors_by_kind"].keys() <= {"network"}
    assert ours.stat().st_size > 3 * LARGE << 20
    assert data(theirs) == data(ours)


@both
def test_our_keep_alives_while_idle(peer: OldPeer, address: str, tmp_path: Path) -> None:
    """Dozens of them do not make their primary close the connection."""
    theirs, ours, log = tmp_path / "theirs.fs", tmp_path / "ours.fs", tmp_path / "log"
    with (
        peer.run("zrs_primary", log, theirs, address, "--story", 1) as primary,
        our_secondary(ours, address) as secondary,
    ):
        tid = committed(primary)
        wait_until(lambda: secondary.lastTransaction() == tid)
        before = secondary.status()["connections"]
        time.sleep(40 * KEEP_ALIVE_DELAY)
        assert secondary.status()["connected"]
        assert secondary.status()["connections"] == before
        assert primary.end() == 0


def last_tid(path: Path) -> bytes:
    """Return the last finished transaction in a Data.fs, or zeros.

    Ours may be writing the next one, which ZODB's iterator would not skip.
    """
    last: bytes = z64
    if path.exists():
        reader = TransactionReader(str(path), z64)
        while (found := reader.next()) is not None:
            last = found.tid
    return last
