"""The blob files of a storage: durable before their transaction, gone after a pack.

The layout of a blob directory is ZODB's `FilesystemHelper`'s business.
"""

import binascii
import os
from collections.abc import Iterable, Iterator
from typing import Any

from ZODB.blob import link_or_copy, remove_committed, remove_committed_dir

_OID_LENGTH = 8


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_durable(fshelper: Any, oid: bytes, tid: bytes) -> None:
    """Sync a blob's file and the directories that lead to it."""
    path = fshelper.getBlobFilename(oid, tid)
    _sync(path)
    top = os.path.abspath(fshelper.base_dir)
    directory = os.path.dirname(os.path.abspath(path))
    while directory.startswith(top):
        _sync(directory)
        directory = os.path.dirname(directory)


def remove_old(blob_dir: str) -> None:
    """Remove the blobs that an earlier pack kept."""
    if os.path.exists(blob_dir + ".old"):
        remove_committed_dir(blob_dir + ".old")


def read_removed(blob_dir: str) -> list[tuple[bytes, bytes | None]]:
    """Return, and forget, what a packer written in Python says can go."""
    path = os.path.join(blob_dir, ".removed")
    dropped: list[tuple[bytes, bytes | None]] = []
    with open(path, "rb") as lines:
        for line in lines:
            ids = binascii.unhexlify(line.strip())
            if len(ids) not in {_OID_LENGTH, 2 * _OID_LENGTH}:
                raise ValueError(f"{path}: {line!r} is neither an oid nor an oid and a tid")
            dropped.append((ids[:_OID_LENGTH], ids[_OID_LENGTH:] or None))
    os.remove(path)
    return dropped


def remove_dropped(
    fshelper: Any,
    dropped: Iterable[tuple[bytes, bytes | None]],
    lock: Any,
    *,
    keep_old: bool,
) -> None:
    """Remove the blobs that a pack dropped: one file, or all of an object without a tid.

    With `keep_old` a second directory with the suffix ``.old`` gets all the files that
    there were. `lock` is held while directories are pruned, as it is by those who make
    them.
    """
    top = os.path.abspath(fshelper.base_dir)
    if keep_old:
        os.mkdir(top + ".old")
        link_or_copy(os.path.join(top, ".layout"), os.path.join(top + ".old", ".layout"))
    for oid, tid in dropped:
        if tid is None:
            path = os.path.abspath(fshelper.getPathForOID(oid))
        else:
            path = os.path.abspath(fshelper.getBlobFilename(oid, tid))
        if not os.path.exists(path):
            continue  # dropped twice, or removed by hand
        if keep_old:
            os.rename(path, _make_room(top, path))
        elif tid is None:
            remove_committed_dir(path)
        else:
            remove_committed(path)
        _prune(os.path.dirname(path), top, lock)
    if keep_old:
        for path in _blob_files(top):
            link_or_copy(path, _make_room(top, path))


def _make_room(top: str, path: str) -> str:
    """Return the place of `path` in the old directory; the directories above are made."""
    place = os.path.join(top + ".old", os.path.relpath(path, top))
    os.makedirs(os.path.dirname(place), exist_ok=True)
    return place


def _prune(directory: str, top: str, lock: Any) -> None:
    """Remove a directory if it is empty, and so on upwards."""
    while len(directory) > len(top):
        with lock:
            if os.listdir(directory):
                return
            os.rmdir(directory)
        directory = os.path.dirname(directory)


def _blob_files(top: str) -> Iterator[str]:
    for directory, _, names in os.walk(top):
        for name in names:
            if name.endswith(".blob"):
                yield os.path.join(directory, name)
