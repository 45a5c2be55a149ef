"""Two storages, ours and ZODB's, that receive equal calls and must return equal results."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ZODB.FileStorage
from persistent.TimeStamp import TimeStamp
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import (
    ConflictError,
    POSError,
    POSKeyError,
    StorageTransactionError,
    UndoError,
)

from zc.zrs.filestorage import FileStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUFFIXES = "", ".old", ".pack"
# Number of bytes to show around the first difference of two files.
AROUND = 40


@dataclass(frozen=True)
class Raised:
    """An exception as callers see it; the text is compared for ZODB's exceptions."""

    type: type
    text: str = ""
    serials: Any = None

    @classmethod
    def of(cls, error: Exception, directory: Path) -> Raised:
        """Describe an exception, without its storage's directory."""
        serials = error.serials if isinstance(error, ConflictError) else None
        # If two reasons prevent an undo, either may be reported. For a wrong transaction, the
        # text names the storage and the transaction.
        told = UndoError, StorageTransactionError
        counts = isinstance(error, POSError) and not isinstance(error, told)
        text = str(error).replace(str(directory), "") if counts else ""
        return cls(type(error), text, serials)


class Side:
    """One of the two storages: its class, its files, and its current transaction."""

    def __init__(self, cls: type, directory: Path, **options: Any) -> None:
        directory.mkdir()
        self.cls, self.directory, self.options = cls, directory, options
        self.path = directory / "Data.fs"
        self.storage: Any = None
        self.transaction: Any = None
        self.source: Any = None  # to copy from
        if options.get("blobs") == "lawn":
            # Both keep the layout that this file names, and choose another one for new
            # directories.
            cls(str(self.path)).close()
            (directory / "blobs").mkdir()
            (directory / "blobs" / ".layout").write_text("lawn")
        self.open()

    def open(self, **options: Any) -> None:
        """Open the storage with these additional options."""
        self.storage = self.make(**options)

    def make(self, **options: Any) -> Any:
        """Return a storage of this side's class with its file."""
        blobs = {"blob_dir": str(self.directory / "blobs")} if self.options.get("blobs") else {}
        own = {name: value for name, value in self.options.items() if name != "blobs"}
        return self.cls(str(self.path), **{**own, **blobs, **options})

    def begin(self, meta: dict[str, Any], *arguments: Any) -> None:
        """Begin a transaction with this user, description and extension."""
        self.transaction = TransactionMetaData(**meta)
        self.storage.tpc_begin(self.transaction, *arguments)

    def write_blob(self, content: bytes) -> str:
        """Write a file for a blob, and return its path."""
        file = self.directory / "uncommitted"
        file.write_bytes(content)
        return str(file)

    def file(self, suffix: str = "") -> Path:
        """Return the path of one of the storage's files."""
        return self.path.with_name(self.path.name + suffix)

    def content(self, suffix: str) -> bytes | None:
        """Return the contents of one of the storage's files, None if it is missing."""
        file = self.file(suffix)
        return file.read_bytes() if file.exists() else None

    def blobs(self) -> dict[str, bytes]:
        """Return the committed blob files with their contents."""
        found = {}
        for top in self.directory / "blobs", self.directory / "blobs.old":
            for file in sorted(top.rglob("*.blob")):
                found[str(file.relative_to(self.directory))] = file.read_bytes()
        return found


class Pair:
    """Our storage and ZODB's, each with its own files."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.ours = Side(FileStorage, directory / "ours", **options)
        self.theirs = Side(ZODB.FileStorage.FileStorage, directory / "theirs", **options)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both, ours first."""
        return self.ours, self.theirs

    def do(self, act: Callable[[Side], Any]) -> Any:
        """Call both; return the result or `Raised`, which must be equal."""
        ours, theirs = self.outcomes(act)
        self.compare_outcomes(ours, theirs)
        return theirs

    def outcomes(self, act: Callable[[Side], Any]) -> tuple[Any, Any]:
        """Call both; return the results or `Raised`."""
        return self.outcome(self.ours, act), self.outcome(self.theirs, act)

    @staticmethod
    def compare_outcomes(ours: Any, theirs: Any) -> None:
        """Fail unless the two are equal.

        If ZODB raises a plain `KeyError`, we may raise a `POSKeyError`.
        """
        if theirs == Raised(KeyError) and isinstance(ours, Raised) and ours.type is POSKeyError:
            return
        assert ours == theirs, f"we: {ours}\nZODB: {theirs}"

    @staticmethod
    def outcome(side: Side, act: Callable[[Side], Any]) -> Any:
        """Call one of the two; return the result or `Raised`."""
        try:
            return act(side)
        except Exception as error:  # noqa: BLE001 -- which one it is, is the question
            return Raised.of(error, side.directory)

    def open(self) -> None:
        """Open both again.

        After some accidents only ours can be opened; then ZODB continues with our file. After
        others, ZODB reports a transaction that it cut off as the last one until it is reopened.
        """
        self.ours.open()
        try:
            self.theirs.open()
            self.theirs.storage.close()
            self.theirs.open()
        except Exception:  # noqa: BLE001 -- there are many ways
            self.give_ours()
            self.theirs.open()
        self.agree_on_the_last_transaction()

    def agree_on_the_last_transaction(self) -> None:
        """Set the last transaction of ZODB's storage to one that a pack has dropped.

        ZODB forgets it when the file is closed; ours has it in the list of what packs dropped.
        """
        ours, theirs = (side.storage.lastTransaction() for side in self.sides)
        if ours > theirs:
            assert ours in (self.ours.content(".dropped") or b"")
            self.theirs.storage._ltid = ours
            self.theirs.storage._ts = TimeStamp(ours)

    def give_ours(self) -> None:
        """Copy our storage's files, without the index, to ZODB's closed storage."""
        for path in self.theirs.directory.glob("Data.fs*"):
            path.unlink()
        for path in self.ours.directory.glob("Data.fs*"):
            if path.suffix not in {".index", ".lock"}:
                shutil.copy(path, self.theirs.directory)
        for blobs in "blobs", "blobs.old":
            shutil.rmtree(self.theirs.directory / blobs, ignore_errors=True)
            if (self.ours.directory / blobs).exists():
                shutil.copytree(self.ours.directory / blobs, self.theirs.directory / blobs)

    def compare_files(self, suffixes: Sequence[str] = SUFFIXES) -> None:
        """Fail unless the files of both are equal, byte for byte, and the blobs too."""
        for suffix in suffixes:
            assert_equal_bytes(suffix, *(side.content(suffix) for side in self.sides))
        ours, theirs = (side.blobs() for side in self.sides)
        # If a transaction is aborted before its vote, ZODB leaves its blobs behind.
        left = {name for name in theirs.keys() - ours.keys() if not self.is_committed(name)}
        assert ours == {name: theirs[name] for name in theirs.keys() - left}

    def is_committed(self, blob: str) -> bool:
        """Return whether the transaction in a blob file's name exists."""
        tid = bytes.fromhex(Path(blob).stem.removeprefix("0x"))
        return any(found.tid == tid for found in self.theirs.storage.iterator(tid, tid))

    def exchange(self, suffix: str) -> None:
        """Give each the other's file."""
        ours, theirs = (side.file(suffix) for side in self.sides)
        spare = self.directory / "exchanged"
        for source, target in (ours, spare), (theirs, ours), (spare, theirs):
            if source.exists():
                os.replace(source, target)  # noqa: PTH105 -- as the next lines

    def close(self) -> None:
        """Close both."""
        for side in self.sides:
            side.storage.close()

    def remove(self) -> None:
        """Close both, and remove their files."""
        self.close()
        shutil.rmtree(self.directory)


def assert_equal_bytes(name: str, ours: bytes | None, theirs: bytes | None) -> None:
    """Fail unless the two are equal, and show where they are not."""
    if ours == theirs:
        return
    assert ours is not None, f"only ZODB has a {name!r} file"
    assert theirs is not None, f"only we have a {name!r} file"
    shorter = min(len(ours), len(theirs))
    at = next((i for i in range(shorter) if ours[i] != theirs[i]), shorter)
    start = max(0, at - AROUND)
    assert ours[start : at + AROUND] == theirs[start : at + AROUND], f"{name!r} from {start} on"
    raise AssertionError(f"{name!r}: {len(ours)} and {len(theirs)} bytes")
