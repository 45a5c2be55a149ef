"""The blob files of a storage: durable before their transaction, gone after a pack.

The layout of a blob directory is ZODB's `FilesystemHelper`'s business.
"""

import binascii
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ZODB.blob import (
    LAYOUTS,
    auto_layout_select,
    link_or_copy,
    remove_committed,
    remove_committed_dir,
    rename_or_copy_blob,
)
from ZODB.FileStorage.FileStorage import FileStorageError

from zc.zrs import _zrs

_OID_LENGTH = 8
_LAYOUT_MARKER = ".layout"
_TEMPORARY = "tmp"
_ZEO_CACHE = "zeocache"
_LONGEST_SHOWN = 80


def refuse_to_empty(path: str, blob_dir: str) -> None:
    """Raise `FileStorageError` if `blob_dir` has files of another database, or of a lost one.

    For storages that are about to be made: ZODB's makes a Data.fs by emptying the directory
    of its blobs, whoever's they are.
    """
    found = _file_in(Path(blob_dir))
    if found is not None:
        raise FileStorageError(
            f"{path} does not exist, but its blob directory {blob_dir} is not empty"
            f" ({found} is there), and would be emptied: put the file in its place, or remove"
            " the blobs, or name another directory; blobs that several machines share need"
            " `blobs none` on the secondaries"
        )


def check_layout(blob_dir: str) -> str:
    """Return the layout of a blob directory, which need not exist.

    Raises `FileStorageError` for a directory whose marker names no layout of blobs, such as the
    cache of a ZEO client.
    """
    try:
        layout = auto_layout_select(blob_dir)
    except UnicodeDecodeError:
        layout = None
    if layout in LAYOUTS:
        return str(layout)
    marker = Path(blob_dir, _LAYOUT_MARKER)
    if layout == _ZEO_CACHE:
        raise FileStorageError(
            f"{blob_dir} is the blob cache of a ZEO client ({marker} says {layout}), not a"
            " blob directory: name the directory of the ZEO server's storage"
        )
    what = "is not text" if layout is None else f"says {layout[:_LONGEST_SHOWN]!r}"
    raise FileStorageError(
        f"{blob_dir} is not a blob directory that can be read: its layout is"
        f" {' or '.join(sorted(LAYOUTS))}, and {marker} {what}"
    )


def _file_in(top: Path) -> Path | None:
    """Return a file of a blob directory, beside temporary ones; None if there is none."""
    for directory, below, names in os.walk(top):
        if Path(directory) == top:
            below[:] = [name for name in below if name != _TEMPORARY]
            names = [name for name in names if name != _LAYOUT_MARKER]  # noqa: PLW2901
        if names:
            return Path(directory, names[0])
    return None


def make_directory_durable(blob_dir: Path, top: Path) -> None:
    """Sync the layout marker of a blob directory, and the names that lead to it from `top`.

    Without its marker a directory is taken for one of the other layout, and no blob is
    found in it any more.
    """
    _zrs.sync_blob(blob_dir / _LAYOUT_MARKER, top)


def place(fshelper: Any, oid: bytes, tid: bytes, source: str, lock: Any) -> None:
    """Move a blob's file to its place, and make it durable there.

    `lock` is held while its directories are made, as it is by those who remove them.
    """
    top = Path(fshelper.base_dir).absolute()
    target = Path(fshelper.getBlobFilename(oid, tid)).absolute()
    with lock:
        _zrs.make_way_for_blob(target, top)
        try:
            rename_or_copy_blob(source, str(target))
        except BaseException:
            target.unlink(missing_ok=True)  # a copy may have begun
            raise
    _zrs.sync_blob(target, top)


def remove_old(blob_dir: str) -> None:
    """Remove the blobs that an earlier pack kept."""
    if Path(blob_dir + ".old").exists():
        remove_committed_dir(blob_dir + ".old")


def read_removed(blob_dir: str) -> list[tuple[bytes, bytes | None]]:
    """Return, and forget, what a packer written in Python says can go."""
    path = Path(blob_dir, ".removed")
    dropped: list[tuple[bytes, bytes | None]] = []
    with path.open("rb") as lines:
        for line in lines:
            ids = binascii.unhexlify(line.strip())
            if len(ids) not in {_OID_LENGTH, 2 * _OID_LENGTH}:
                raise ValueError(f"{path}: {line!r} is neither an oid nor an oid and a tid")
            dropped.append((ids[:_OID_LENGTH], ids[_OID_LENGTH:] or None))
    path.unlink()
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
    top = Path(fshelper.base_dir).absolute()
    old = Path(f"{top}.old")
    if keep_old:
        old.mkdir()
        link_or_copy(str(top / _LAYOUT_MARKER), str(old / _LAYOUT_MARKER))
    for oid, tid in dropped:
        of_object = tid is None
        found = fshelper.getPathForOID(oid) if of_object else fshelper.getBlobFilename(oid, tid)
        path = Path(found).absolute()
        if not path.exists():
            continue  # dropped twice, or removed by hand
        if keep_old:
            path.rename(_place(path, top, old))
        elif of_object:
            remove_committed_dir(str(path))
        else:
            remove_committed(str(path))
        _prune(path.parent, top, lock)
    if keep_old:
        for path in _blob_files(top):
            link_or_copy(str(path), str(_place(path, top, old)))


def _place(path: Path, top: Path, old: Path) -> Path:
    """Return the place of `path` in the old directory; the directories above are made."""
    place = old / path.relative_to(top)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _prune(directory: Path, top: Path, lock: Any) -> None:
    """Remove a directory if it is empty, and so on upwards."""
    while directory != top:
        with lock:
            if any(directory.iterdir()):
                return
            directory.rmdir()
        directory = directory.parent


def _blob_files(top: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(top):
        for name in names:
            if name.endswith(".blob"):
                yield Path(directory, name)
