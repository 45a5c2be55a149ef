"""zc.zrs 3.1 and 2.5 with ours: their primary and our secondary, and the other way round."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.utils import z64

from interop.old_peers import ZRS25, ZRS31, OldPeer, make_file
from interop.peers import story
from interop.peers.story import EXTENSION
from programs import ZRS, free_port, running
from replicas.transactions import read_transactions
from replicas.waiting import wait_until
from streams.captures import MAGIC_LENGTH, PYTHON2_MAGIC, PYTHON3_MAGIC
from zc.zrs._zrs import TransactionReader
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from programs import Program

pytestmark = pytest.mark.interop
both = pytest.mark.parametrize("peer", [ZRS31, ZRS25], ids=str)

tell: Any = story.tell  # which Python 2 runs too, so it has no annotations

KEEP_ALIVE = ("--keep-alive-delay", "0.05", "--reconnect-delay", "0.1")
THEIR_KEEP_ALIVE = ("--keep-alive", "0.05", "--reconnect", "0.1")


@pytest.fixture
def address() -> str:
    # Their primaries cannot pick a port by themselves.
    return f"127.0.0.1:{free_port()}"


@contextmanager
def our_secondary(path: Path, address: str) -> Iterator[Secondary]:
    host, port = address.split(":")
    secondary = Secondary(
        str(path), (host, int(port)), reconnect_delay=0.1, keep_alive_delay=0.05
    )
    try:
        yield secondary
    finally:
        secondary.close()


def committed(primary: Program) -> bytes:
    """Wait until their primary has told its story; return its last tid."""
    return bytes.fromhex(primary.wait_for("COMMITTED"))


def data(path: Path) -> bytes:
    """Return a Data.fs as if Python 3 had written it: only the magic tells."""
    contents = path.read_bytes()
    assert contents[:MAGIC_LENGTH] in {PYTHON2_MAGIC, PYTHON3_MAGIC}
    return PYTHON3_MAGIC + contents[MAGIC_LENGTH:]


def values(path: Path) -> list[tuple[Any, ...]]:
    """Return what a Data.fs says, extensions loaded: old peers pickle them anew.

    A transaction is (tid, status, user, description, extension, records).
    """
    path.write_bytes(data(path))
    return [
        (*found[:4], load_extension(found.extension), found.records)
        for found in read_transactions(path)
    ]


def load_extension(extension: bytes) -> Any:
    return pickle.loads(extension, encoding="latin-1") if extension else {}


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
        # What arrived is a prefix, wherever it broke off.
        size = secondary.getSize()
        assert expected.startswith(ours.read_bytes()[:size])
        with peer.run("zrs_primary", log, theirs, address):
            wait_until(lambda: len(secondary) == 60)
    assert data(ours) == expected


@contextmanager
def our_primary(path: Path, peer: OldPeer) -> Iterator[tuple[Primary, Any]]:
    """Yield a primary that this peer can follow, and a database on it."""
    wire_pickles: Any = "python2" if peer.python2 else "python3"
    primary = Primary(str(path), ("127.0.0.1", 0), wire_pickles=wire_pickles)
    db = ZODB.DB(primary)
    try:
        yield primary, db
    finally:
        db.close()


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
        # Killed, it comes back and gets what it missed.
        tell(db, 2)
        with peer.run("zrs_secondary", log, *arguments) as secondary:
            last = tell(db, 1)
            secondary.wait_for(f"TID {last.hex()}")
            assert secondary.end() == 0
    assert data(theirs) == data(ours)


@pytest.mark.parametrize(
    "peer",
    [
        ZRS31,
        ZRS25,
    ],
    ids=str,
)
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


def last_tid(path: Path) -> bytes:
    """Return the last finished transaction in a Data.fs, zeros for none.

    Ours may be at the next one, which ZODB's iterator would not pass over.
    """
    last: bytes = z64
    if path.exists():
        reader = TransactionReader(str(path), z64)
        while (found := reader.next()) is not None:
            last = found.tid
    return last
