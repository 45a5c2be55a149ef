"""Our peers of an old zc.zrs, and comparisons of its files with ours."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ZODB

from replicas.transactions import read_transactions
from streams.captures import MAGIC_LENGTH, PYTHON2_MAGIC, PYTHON3_MAGIC
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.storages.engine import open_file_storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from interop.old_peers import OldPeer
    from programs import Program
    from replicas.transactions import Transaction

KEEP_ALIVE_DELAY = 0.05


def blob_directory(path: Path) -> Path:
    """Return the blob directory of a Data.fs in these tests."""
    return path.with_suffix(".blobs")


def open_storage(path: Path, *, blobs: bool) -> Any:
    """Open our storage, with or without blobs."""
    options: dict[str, Any] = {"blob_dir": str(blob_directory(path))} if blobs else {}
    return open_file_storage(str(path), **options)


def parse(address: str) -> tuple[str, int]:
    """Return a host and a port."""
    host, port = address.rsplit(":", 1)
    return host, int(port)


def spell(primary: Primary) -> str:
    """Return a primary's address in the form that the peers' programs accept."""
    assert isinstance(primary.address, tuple)
    return "{}:{}".format(*primary.address)


@contextmanager
def our_secondary(
    path: Path, address: str, *, blobs: bool = False, blob_option: Any = "all"
) -> Iterator[Secondary]:
    """Yield a secondary that reconnects soon, and sends many keep-alives."""
    secondary = Secondary(
        open_storage(path, blobs=blobs),
        parse(address),
        reconnect_delay=0.1,
        keep_alive_delay=KEEP_ALIVE_DELAY,
        blobs=blob_option,
    )
    try:
        yield secondary
    finally:
        secondary.close()


def dialect(peer: OldPeer) -> Any:
    """Return the dialect of headers that a peer can read."""
    return "python2" if peer.python2 else "python3"


@contextmanager
def our_primary(
    path: Path, peer: OldPeer, *, blobs: bool = False
) -> Iterator[tuple[Primary, Any]]:
    """Yield a primary that this peer can follow, and its database."""
    storage = open_storage(path, blobs=blobs)
    primary = Primary(storage, ("127.0.0.1", 0), wire_pickles=dialect(peer))
    db = ZODB.DB(primary, large_record_size=1 << 30)
    try:
        yield primary, db
    finally:
        db.close()


def committed(primary: Program) -> bytes:
    """Wait until their primary has committed its story; return the last tid."""
    return bytes.fromhex(primary.wait_for("COMMITTED"))


def data(path: Path) -> bytes:
    """Return a Data.fs as if Python 3 had written it: only the magic differs."""
    contents = path.read_bytes()
    assert contents[:MAGIC_LENGTH] in {PYTHON2_MAGIC, PYTHON3_MAGIC}
    return PYTHON3_MAGIC + contents[MAGIC_LENGTH:]


def transactions(path: Path) -> list[Transaction]:
    """Return the transactions of a Data.fs of either Python, without their end positions."""
    path.write_bytes(data(path))
    return [found._replace(end=0) for found in read_transactions(path)]


def values(path: Path) -> list[tuple[Any, ...]]:
    """Return the transactions of a Data.fs, extensions unpickled, for peers that repickle them.

    A transaction is (tid, status, user, description, extension, records).
    """
    return [
        (*found[:4], load_extension(found.extension), found.records)
        for found in transactions(path)
    ]


def load_extension(extension: bytes) -> Any:
    """Return the value of an extension's pickle."""
    return pickle.loads(extension, encoding="latin-1") if extension else {}


def blob_files(path: Path) -> dict[str, bytes]:
    """Return the contents of all committed blobs of a Data.fs by path."""
    directory = blob_directory(path)
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("0x*.blob")
    }


def without_empty(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out empty blobs, of which zc.zrs stores only the records."""
    return {name: contents for name, contents in files.items() if contents}
