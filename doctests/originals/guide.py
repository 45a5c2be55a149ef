"""The environment of the guide to dobbin: Python 2's native strings and exception names."""

from __future__ import annotations

import contextlib
import doctest
import re
import tempfile
import threading
import traceback
from typing import TYPE_CHECKING, Any
from unittest import mock

import transaction
from doctests.originals.checker import Checker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GUIDE_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

_QUALIFIED = re.compile(r"^(?:\w+\.)+(\w+Error)\b")
_BYTES = re.compile(r"""(?<![\w'"\\])b('(?:[^'\\\n]|\\.)*')""")


class GuideChecker(Checker):
    """Compares outputs, ignoring names of modules and prefixes of bytes."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Return whether an example's output agrees with the guide."""
        got = _QUALIFIED.sub(r"\1", _BYTES.sub(r"\1", got))
        return doctest.OutputChecker.check_output(self, want, got, optionflags)


def bytes_joined(source: str) -> str:
    """Return an example that joins the contents of a binary file as bytes."""
    return source.replace('"".join(', 'b"".join(')


class NativeFile:
    """A temporary file as in Python 2: with native strings, and `write` returns nothing."""

    def __init__(self) -> None:
        self._file: Any = _temporary_file()

    def write(self, string: str) -> None:
        self._file.write(string.encode("latin-1"))

    def seek(self, position: int) -> None:
        self._file.seek(position)

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        return data

    def close(self) -> None:
        self._file.close()


_temporary_file = tempfile.TemporaryFile


def print_exception(arguments: threading.ExceptHookArgs) -> None:
    """Print a thread's exception into the output of the current example, which fails."""
    print("".join(traceback.format_exception(arguments.exc_value)))  # noqa: T201


@contextlib.contextmanager
def guide_world(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield the names that the guide expects; its files are created in `directory`."""
    transaction.abort()
    with (
        mock.patch.object(tempfile, "TemporaryFile", NativeFile),
        mock.patch.object(threading, "excepthook", print_exception),
    ):
        names: dict[str, Any] = {
            "database_path": str(directory / "guide.dobbin"),
            "transaction": transaction,
        }
        try:
            yield names
        finally:
            transaction.abort()
