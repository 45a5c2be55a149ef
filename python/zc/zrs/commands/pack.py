"""``zrs pack``: remove old revisions from a database."""

import argparse
import contextlib
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ZODB.serialize import referencesf

from zc.zrs.commands.arguments import Commands, add_log_level
from zc.zrs.commands.files import CannotRead, check_file, naming_file
from zc.zrs.commands.output import write_line
from zc.zrs.commands.progress import watching
from zc.zrs.filestorage import FileStorage
from zc.zrs.system.quantities import format_count

DESCRIPTION = """
Remove old revisions of objects, and objects that are not reachable, from a database that no
process has open. The original file, and the blobs that are removed, are kept with the suffix
.old.
"""
SECONDS_A_DAY = 24 * 60 * 60


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "pack", help="remove old revisions and unreachable objects", description=DESCRIPTION
    )
    parser.set_defaults(
        run=lambda given: run_pack(
            given.path,
            days=given.days,
            gc=given.gc,
            keep_old=given.keep_old,
            blob_dir=given.blob_dir,
        )
    )
    parser.add_argument("path", type=Path, help="the Data.fs")
    parser.add_argument(
        "--days",
        type=_days,
        default=0.0,
        metavar="N",
        help="keep everything that was current in the last N days (default: 0)",
    )
    parser.add_argument(
        "--no-gc",
        dest="gc",
        action="store_false",
        help="keep objects that are not reachable from the root",
    )
    parser.add_argument(
        "--no-old",
        dest="keep_old",
        action="store_false",
        help="do not keep the original file and removed blobs",
    )
    parser.add_argument(
        "--blob-dir",
        type=Path,
        metavar="DIR",
        help="blob directory of the database",
    )
    add_log_level(parser)


def run_pack(
    path: Path, *, days: float, gc: bool, keep_old: bool, blob_dir: Path | None = None
) -> int:
    """Pack a database, and print the size of the file before and after."""
    check_file("pack", path, to_write=True)
    if blob_dir is not None and not blob_dir.is_dir():
        raise CannotRead(f"cannot pack {path}: directory {blob_dir} does not exist")
    with naming_file("pack", path):
        storage = FileStorage(
            str(path),
            pack_keep_old=keep_old,
            blob_dir=None if blob_dir is None else str(blob_dir),
        )
        with contextlib.closing(storage):
            before = storage.getSize()
            with watching(lambda: _progress(storage)):
                since = max(0.0, time.time() - days * SECONDS_A_DAY)
                storage.pack(since, _references_of(path), gc)
            after = storage.getSize()
    write_line(
        f"packed {path}: {format_count(before, 'byte')} before, {format_count(after, 'byte')} after"
    )
    return 0


def _references_of(path: Path) -> Callable[..., Any]:
    """Return a function for the references of a record; zc.zlibstorage may compress it."""

    def references(data: bytes, oids: list[Any] | None = None) -> Any:
        if data[:2] == b".z":
            data = zlib.decompress(data[2:])
        elif data[:1] == b".":
            raise CannotRead(
                f"cannot pack {path}: its records are transformed by another layer; pack"
                " it through that layer, or with --no-gc"
            )
        return referencesf(data, oids)

    return references


def _progress(storage: FileStorage) -> tuple[str, int, int, str] | None:
    phase, done, total = storage._pack_progress()  # noqa: SLF001 -- of no use to others yet
    if not total:
        return None
    return phase, done, total, "objects" if phase == "reaching" else "bytes"


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return days
