"""The blob files of a storage: durable before their transaction, removed after a pack.

ZODB's `FilesystemHelper` defines the layout of a blob directory.
"""

import binascii
import contextlib
import errno
import logging
import os
import shutil
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

logger = logging.getLogger("ZODB.FileStorage")

Revision = tuple[bytes, bytes]  # oid and tid

_OID_LENGTH = 8
_LAYOUT_MARKER = ".layout"
# Lists the revisions whose files a pack removes, so that the next one continues after an
# interruption.
_DROPPED = ".dropped"
_FOUND_BY_FSCK = "lost+found"
_TEMPORARY = "tmp"
_ZEO_CACHE = "zeocache"
_LONGEST_SHOWN = 80


def check_blobs_unused(path: str, blob_dir: str) -> None:
    """Raise `FileStorageError` if `blob_dir` has files of another database, or of a lost one.

    Called before a storage is created, because ZODB creates a Data.fs by emptying the blob
    directory, even if the blobs belong to another database.
    """
    found = _file_in(Path(blob_dir))
    if found is not None:
        raise FileStorageError(
            f"{path} does not exist, but its blob directory {blob_dir} is not empty"
            f" ({found} exists) and would be emptied: restore the file, remove the blobs,"
            " or use another directory; for blobs that several machines share, use"
            " `blobs none` on the secondaries"
        )


def check_layout(blob_dir: str) -> str:
    """Return the layout of a blob directory, which need not exist.

    Raises `FileStorageError` for a directory whose marker does not name a layout of blobs, such
    as the cache of a ZEO client.
    """
    try:
        layout = auto_layout_select(blob_dir)
    except UnicodeDecodeError:
        layout = None
    # A ZEO client with a cache in this process has added its own layout.
    layouts = sorted(set(LAYOUTS) - {_ZEO_CACHE})
    if layout in layouts:
        return str(layout)
    marker = Path(blob_dir, _LAYOUT_MARKER)
    if layout == _ZEO_CACHE:
        raise FileStorageError(
            f"{blob_dir} is the blob cache of a ZEO client ({marker} says {layout}), not"
            " a blob directory: use the directory of the ZEO server's storage"
        )
    what = "is not text" if layout is None else f"says {layout[:_LONGEST_SHOWN]!r}"
    raise FileStorageError(
        f"{blob_dir} is not a blob directory with a known layout"
        f" ({' or '.join(layouts)}): {marker} {what}"
    )


def _file_in(top: Path) -> Path | None:
    """Return any file of a blob directory except temporary ones, None if it is empty."""
    for directory, below, names in os.walk(top):
        if Path(directory) == top:
            below[:] = [name for name in below if name not in {_TEMPORARY, _FOUND_BY_FSCK}]
            names = [n for n in names if n not in {_LAYOUT_MARKER, _DROPPED}]  # noqa: PLW2901
        if names:
            return Path(directory, names[0])
    return None


def make_directory_durable(blob_dir: Path, top: Path) -> None:
    """Sync the layout marker of a blob directory, and the directories from `top` down to it.

    A directory without its marker is assumed to have the other layout, in which no blob would
    be found.
    """
    _zrs.sync_blob(blob_dir / _LAYOUT_MARKER, top)


def move_into_place(fshelper: Any, oid: bytes, tid: bytes, source: str, lock: Any) -> None:
    """Move a blob's file to its place, and make it durable there.

    `lock` is held while its directories are created, as in functions that remove directories.
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


def empty(blob_dir: Path) -> None:
    """Remove the contents of a blob directory, and the directory unless it is a mount point."""
    if not blob_dir.is_mount():
        remove_committed_dir(str(blob_dir))
        return
    for path in blob_dir.iterdir():
        if path.name == _FOUND_BY_FSCK:
            continue
        if path.is_dir() and not path.is_symlink():
            remove_committed_dir(str(path))
        else:
            path.unlink()


def remove_old(blob_dir: str) -> None:
    """Remove the blobs that an earlier pack kept."""
    if Path(blob_dir + ".old").exists():
        remove_committed_dir(blob_dir + ".old")


@contextlib.contextmanager
def empty_old_directory(blob_dir: str | None, *, keep_old: bool) -> Iterator[None]:
    """Replace the blobs that an earlier pack kept by an empty directory, with `keep_old`.

    If that is impossible, a pack fails before it changes anything. A directory that is still
    empty at the end is removed.
    """
    if blob_dir is None:
        yield
        return
    remove_old(blob_dir)
    if not keep_old:
        yield
        return
    old = Path(blob_dir + ".old")
    old.mkdir()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            old.rmdir()


def read_removed(fshelper: Any, stop: bytes) -> list[Revision]:
    """Return and delete the list of revisions that a packer written in Python has removed.

    The list may contain an object without a revision. This means all its files up to the
    transaction `stop`, the pack time, but not later ones.
    """
    path = Path(fshelper.base_dir, ".removed")
    dropped = []
    with path.open("rb") as lines:
        for line in lines:
            ids = binascii.unhexlify(line.strip())
            if len(ids) == 2 * _OID_LENGTH:
                dropped.append((ids[:_OID_LENGTH], ids[_OID_LENGTH:]))
            elif len(ids) == _OID_LENGTH:
                dropped += [(ids, tid) for tid in _revisions(fshelper, ids) if tid <= stop]
            else:
                raise ValueError(f"{path}: {line!r} is neither an oid nor an oid and a tid")
    path.unlink()
    return dropped


def _revisions(fshelper: Any, oid: bytes) -> list[bytes]:
    """Return the tids of an object's blob files."""
    found = Path(fshelper.getPathForOID(oid)).glob("*.blob")
    return [fshelper.splitBlobFilename(str(path))[1] for path in found]


def interrupted_removals(fshelper: Any) -> list[Revision]:
    """Return the revisions whose files an interrupted removal may have left."""
    try:
        content = Path(fshelper.base_dir, _DROPPED).read_bytes()
    except FileNotFoundError:
        return []
    both = 2 * _OID_LENGTH
    whole = len(content) - len(content) % both  # its writing may have been interrupted
    pieces = (content[at : at + both] for at in range(0, whole, both))
    return [(piece[:_OID_LENGTH], piece[_OID_LENGTH:]) for piece in pieces]


def remove_dropped(
    fshelper: Any, dropped: Iterable[Revision], lock: Any, *, keep_old: bool
) -> None:
    """Remove the files of the revisions that a pack dropped.

    With `keep_old`, the directory with the suffix ``.old`` receives all files; if it is on
    another file system, only the removed ones. `lock` is held while directories are pruned, as
    in functions that create directories.

    The pack is complete, so files that cannot be removed are logged, and left to the next pack.
    """
    top = Path(fshelper.base_dir).absolute()
    old = Path(f"{top}.old") if keep_old else None
    dropped = list(dropped)
    if dropped:
        _write_dropped(top, dropped)
    left = []
    problem: OSError | None = None
    for oid, tid in dropped:
        path = Path(fshelper.getBlobFilename(oid, tid)).absolute()
        try:
            _remove(path, top, old)
        except OSError as error:
            problem = error
            left.append((oid, tid))
        else:
            _prune(path.parent, top, lock)
    _write_dropped(top, left)
    if problem is not None:
        logger.error(
            "%s: %d files of removed blobs could not be deleted; the next pack deletes"
            " them: %s",
            top,
            len(left),
            problem,
        )
    if old is not None:
        _link_all(top, old)


def _write_dropped(top: Path, dropped: list[Revision]) -> None:
    """Record the revisions whose files will be removed."""
    path = top / _DROPPED
    try:
        if dropped:
            path.write_bytes(b"".join(oid + tid for oid, tid in dropped))
        else:
            path.unlink(missing_ok=True)
    except OSError:
        logger.exception("%s: cannot record the blobs that were packed away", top)


def _remove(path: Path, top: Path, old: Path | None) -> None:
    """Remove a blob's file, if it exists, or move it to the old directory."""
    if not path.exists():
        return  # dropped twice, or removed by hand
    if old is None:
        remove_committed(str(path))
        return
    place = _path_in_old(path, top, old)
    try:
        path.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        try:
            shutil.copy2(path, place)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
        remove_committed(str(path))


def _link_all(top: Path, old: Path) -> None:
    """Link the files that remain into the old directory, if it is on the same file system."""
    try:
        shutil.copyfile(top / _LAYOUT_MARKER, old / _LAYOUT_MARKER)
        for path in _blob_files(top):
            # A file of a transaction that is being aborted may have been removed.
            with contextlib.suppress(FileNotFoundError):
                link_or_copy(str(path), str(_path_in_old(path, top, old)))
    except OSError as error:
        logger.warning("%s contains only the blobs that were packed away: %s", old, error)


def _path_in_old(path: Path, top: Path, old: Path) -> Path:
    """Return the place of `path` in the old directory, and create its parent directories."""
    place = old / path.relative_to(top)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _prune(directory: Path, top: Path, lock: Any) -> None:
    """Remove a directory if it is empty, then its parents."""
    while directory != top:
        with lock:
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass  # the directory is not empty
            except OSError:
                return
        directory = directory.parent


def _blob_files(top: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(top):
        for name in names:
            if name.endswith(".blob"):
                yield Path(directory, name)
