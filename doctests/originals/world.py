"""Set up the environment of 2007 during a run."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import types
import warnings
from typing import TYPE_CHECKING, Any
from unittest import mock

import persistent
import transaction
import ZODB.FileStorage
import ZODB.serialize
from doctests.originals.clock import Clock
from doctests.originals.python2 import PersistentDict, serialize
from doctests.originals.reactor import Reactor

import zc.zrs.primary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class LogPrinter(logging.Handler):
    """Prints log records into the output of the current example."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.levelname} {record.name}:\n{record.getMessage()}")  # noqa: T201


@contextlib.contextmanager
def printed_log(name: str) -> Iterator[None]:
    """Print everything that is logged under a name."""
    logger = logging.getLogger(name)
    printer = LogPrinter()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(printer)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(printer)
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def working_directory(path: Path) -> Iterator[None]:
    """Change to a directory, and back."""
    before = os.getcwd()  # noqa: PTH109 - it need not exist any more when we go back
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def world(directory: Path, file_storage: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Yield the names that a document expects.

    The document's files are created in `directory`; `file_storage` replaces
    `ZODB.FileStorage.FileStorage`.
    """
    clock = Clock()
    opened: list[Any] = []

    def open_storage(*args: Any, **kwargs: Any) -> Any:
        opened.append(file_storage(*args, **kwargs))
        return opened[-1]

    def commit() -> None:
        clock.tick()
        transaction.commit()

    persistent_dict = types.ModuleType("persistent.dict")
    persistent_dict.__dict__["PersistentDict"] = PersistentDict
    transaction.abort()
    with (
        working_directory(directory),
        warnings.catch_warnings(),
        mock.patch.object(time, "time", clock.time),
        mock.patch.object(ZODB.FileStorage, "FileStorage", open_storage),
        mock.patch.object(ZODB.serialize.ObjectWriter, "serialize", serialize),
        mock.patch.dict(sys.modules, {"persistent.dict": persistent_dict}),
        mock.patch.object(persistent, "dict", persistent_dict, create=True),
        mock.patch.object(zc.zrs.primary, "DEFAULT_WIRE_PICKLES", "python2"),
        printed_log("zc.zrs"),
    ):
        warnings.filterwarnings("ignore", "_extension is deprecated", DeprecationWarning)
        try:
            yield {"reactor": Reactor(), "commit": commit}
        finally:
            transaction.abort()
            for storage in opened:
                storage.close()
