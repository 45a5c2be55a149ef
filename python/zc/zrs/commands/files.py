"""Errors and locations that the commands for files have in common."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import zc.lockfile
from ZODB.POSException import POSKeyError, StorageError
from ZODB.utils import oid_repr, tid_repr

from zc.zrs import _zrs
from zc.zrs.commands.errors import CannotStart
from zc.zrs.files.lock_files import real_path

_MAGIC, _MAGIC_PYTHON2 = b"FS30", b"FS21"
STEP = 8 * 1024 * 1024
"""Bytes of a file that are read between two checks of the clock and of signals."""


class CannotRead(CannotStart):
    """A file does not exist, or cannot be used by the command."""

    status = 2


@contextlib.contextmanager
def naming_file(purpose: str, path: Path) -> Iterator[None]:
    """Turn errors of reading or opening a file into `CannotRead` with the file's name."""
    try:
        yield
    except zc.lockfile.LockError as error:
        raise CannotRead(f"cannot {purpose} {path}: it is locked by another process") from error
    except BrokenPipeError:
        raise  # an error of the output, not of the file
    except OSError as error:
        subject = f"{error.filename}: " if _is_other_file(error.filename, path) else ""
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotRead(f"cannot {purpose} {path}: {subject}{reason}") from error
    except POSKeyError as error:
        oid = oid_repr(error.args[0])
        raise CannotRead(f"cannot {purpose} {path}: object {oid} cannot be loaded") from error
    except StorageError as error:
        reason = str(error).removeprefix(f"{real_path(path)}: ").removeprefix(f"{path}: ")
        raise CannotRead(f"cannot {purpose} {path}: {reason}") from error


def check_file(purpose: str, path: Path, *, to_write: bool = False) -> None:
    """Raise `CannotRead`, with the reason, unless the file is a database that can be used."""
    with naming_file(purpose, path), path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if not magic:
        raise CannotRead(f"cannot {purpose} {path}: the file is empty")
    if magic not in {_MAGIC, _MAGIC_PYTHON2}:
        raise CannotRead(
            f"cannot {purpose} {path}: not a Data.fs: it begins with {ascii(magic)[1:]}"
            f" instead of '{_MAGIC.decode()}'"
        )
    if to_write and magic == _MAGIC_PYTHON2:
        raise CannotRead(
            f"cannot {purpose} {path}: the file was written by Python 2 and is read-only"
        )


def _is_other_file(name: object, path: Path) -> bool:
    return isinstance(name, str) and real_path(name) != real_path(path)


def location(problem: _zrs.Problem) -> str:
    """Return the location of a problem: position, transaction and object."""
    words = f"position {problem.pos}"
    if problem.tid is not None:
        words += f", tid {tid_repr(problem.tid)}"
    if problem.oid is not None:
        words += f", oid {oid_repr(problem.oid)}"
    return words
