"""Chains of our peers and zc.zrs: a commit at the head arrives at the leaf."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from interop.old_peers import ZRS25, ZRS31, OldPeer
from interop.ours import (
    blob_directory,
    blob_files,
    committed,
    data,
    dialect,
    open_storage,
    our_primary,
    our_secondary,
    parse,
    spell,
    without_empty,
)
from interop.peers import story
from programs import free_port
from replicas.waiting import wait_until
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from programs import Program

pytestmark = pytest.mark.interop

tell: Any = story.tell
tell_blobs: Any = story.tell_blobs


@contextmanager
def their_middle(peer: OldPeer, path: Path, source: Primary, listen: str) -> Iterator[Program]:
    """Run their cascading secondary with blobs; kill it at the end."""
    arguments = [path, spell(source), "--blobs", blob_directory(path)]
    arguments += ["--listen", listen, "--reconnect", 0.1]
    with peer.run("zrs_secondary", path.with_suffix(".log"), *arguments) as program:
        yield program


def test_ours_theirs_ours(tmp_path: Path) -> None:
    """The middle is killed and restarted; then the leaf continues without it."""
    first, middle, last = (tmp_path / f"{name}.fs" for name in ("first", "middle", "last"))
    address = f"127.0.0.1:{free_port()}"
    with (
        our_primary(first, ZRS31, blobs=True) as (primary, db),
        our_secondary(last, address, blobs=True) as leaf,
    ):
        for _ in range(2):
            with their_middle(ZRS31, middle, primary, address):
                tell(db, 1)
                tid = tell_blobs(db)
                wait_until(lambda: leaf.lastTransaction() == tid)  # noqa: B023
            tell_blobs(db)
        # Directly from the head, without the middle: the histories are the same.
        tid = tell(db, 1)
        leaf.setReplicationAddress(parse(spell(primary)))
        wait_until(lambda: leaf.lastTransaction() == tid)
    assert data(last) == data(first)
    assert data(first).startswith(data(middle))
    expected = blob_files(first)
    assert blob_files(middle).items() < without_empty(expected).items()
    assert without_empty(blob_files(last)) == without_empty(expected)
    # Transactions received directly have their empty blobs too.
    assert b"" in blob_files(last).values()


def test_python_2_between_ours(tmp_path: Path) -> None:
    """It recognizes blobs in records written by Python 2, but not in ours."""
    first, middle, last = (tmp_path / f"{name}.fs" for name in ("first", "middle", "last"))
    address = f"127.0.0.1:{free_port()}"
    arguments = [first, address, "--story", 1, "--blobs", blob_directory(first)]
    with ZRS25.run("zrs_primary", tmp_path / "log", *arguments) as program:
        committed(program)
        assert program.end() == 0
    first.write_bytes(data(first))
    with (
        our_primary(first, ZRS25, blobs=True) as (primary, db),
        our_secondary(last, address, blobs=True) as leaf,
    ):
        for _ in range(2):
            with their_middle(ZRS25, middle, primary, address):
                tid = tell(db, 1)
                wait_until(lambda: leaf.lastTransaction() == tid)  # noqa: B023
    assert data(first) == data(middle) == data(last)
    expected = without_empty(blob_files(first))
    assert len(expected) > len(story.BLOBS)
    assert blob_files(middle) == blob_files(last) == expected


@contextmanager
def our_middle(
    path: Path, source: str, listen: tuple[str, int], headers: Any
) -> Iterator[Secondary]:
    """Yield a cascading secondary with blobs."""
    storage = open_storage(path, blobs=True)
    primary = Primary(storage, listen, wire_pickles=headers)
    secondary = Secondary(primary, parse(source), reconnect_delay=0.1)
    try:
        yield secondary
    finally:
        secondary.close()


@pytest.mark.parametrize(
    ("head", "leaf"),
    [(ZRS31, ZRS31), (ZRS25, ZRS25), (ZRS25, ZRS31), (ZRS31, ZRS25)],
    ids=str,
)
def test_theirs_ours_theirs(head: OldPeer, leaf: OldPeer, tmp_path: Path) -> None:
    """Also from zc.zrs on Python 2 to one on Python 3, which cannot read its headers."""
    first, middle, last = (tmp_path / f"{name}.fs" for name in ("first", "middle", "last"))
    source = f"127.0.0.1:{free_port()}"
    listen = ("127.0.0.1", free_port())
    arguments = [first, source, "--story", 1, "--blobs", blob_directory(first)]
    following = [last, "{}:{}".format(*listen), "--blobs", blob_directory(last)]
    following += ["--reconnect", "0.1"]
    log = tmp_path / "log"
    with leaf.run("zrs_secondary", log, *following) as follower:
        # The head and then the middle are replaced.
        for _ in range(2):
            with (
                our_middle(middle, source, listen, dialect(leaf)) as secondary,
                head.run("zrs_primary", log, *arguments) as primary,
            ):
                tid = committed(primary)
                wait_until(lambda: secondary.lastTransaction() == tid)  # noqa: B023
                follower.wait_for(f"TID {tid.hex()}")
                assert primary.end() == 0
        assert follower.end() == 0
    assert data(first) == data(middle) == data(last)
    expected = blob_files(first)
    assert b"" in expected.values()
    assert blob_files(middle) == expected
    assert blob_files(last) == without_empty(expected)
