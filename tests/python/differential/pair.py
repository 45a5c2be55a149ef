"""Two storages, ours and ZODB's, that are asked the same and have to answer the same."""

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
# Of a file that differs, the bytes around the first difference.
AROUND = 40


@dataclass(frozen=True)
class Raised:
    """An exception as callers see it; the text counts where it is one of ZODB's."""

    type: type
    text: str = ""
    serials: Any = None

    @classmethod
    def of(cls, error: Exception, directory: Path) -> Raised:
        """Describe an exception, without the directory of the storage that raised it."""
        serials = error.serials if isinstance(error, ConflictError) else None
        # Of two reasons against an undo either may be told; who is not in the transaction
        # is told which storage and which transaction.
        told = UndoError, StorageTransactionError
        counts = isinstance(error, POSError) and not isinstance(error, told)
        text = str(error).replace(str(directory), "") if counts else ""
        return cls(type(error), text, serials)


class Side:
    """One of the two storages: its class, its files, and the transaction it is in."""

    def __init__(self, cls: type, directory: Path, **options: Any) -> None:
        directory.mkdir()
        self.cls, self.directory, self.options = cls, directory, options
        self.path = directory / "Data.fs"
        self.storage: Any = None
        self.transaction: Any = None
        self.source: Any = None  # to copy from
        if options.get("blobs") == "lawn":
            # Both go on with the layout that this file names, and make another anew.
            cls(str(self.path)).close()
            (directory / "blobs").mkdir()
            (directory / "blobs" / ".layout").write_text("lawn")
        self.open()

    def open(self, **options: Any) -> None:
        """Open the storage with these options in addition."""
        self.storage = self.make(**options)

    def make(self, **options: Any) -> Any:
        """Return a storage of this side's class on its file."""
        blobs = {"blob_dir": str(self.directory / "blobs")} if self.options.get("blobs") else {}
        own = {name: value for name, value in self.options.items() if name != "blobs"}
        return self.cls(str(self.path), **{**own, **blobs, **options})

    def begin(self, meta: dict[str, Any], *arguments: Any) -> None:
        """Begin a transaction with this user, description and extension."""
        self.transaction = TransactionMetaData(**meta)
        self.storage.tpc_begin(self.transaction, *arguments)

    def write_blob(self, content: bytes) -> str:
        """Write a file that a blob can be made of, and return its path."""
        file = self.directory / "uncommitted"
        file.write_bytes(content)
        return str(file)

    def file(self, suffix: str = "") -> Path:
        """Return the path of one of the storage's files."""
        return self.path.with_name(self.path.name + suffix)

    def content(self, suffix: str) -> bytes | None:
        """Return what is in one of the storage's files, None if it is not there."""
        file = self.file(suffix)
        return file.read_bytes() if file.exists() else None

    def blobs(self) -> dict[str, bytes]:
        """Return the committed blob files, and what is in them."""
        found = {}
        for top in self.directory / "blobs", self.directory / "blobs.old":
            for file in sorted(top.rglob("*.blob")):
                found[str(file.relative_to(self.directory))] = file.read_bytes()
        return found


class Pair:
    """Our storage and ZODB's, on files of their own."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.ours = Side(FileStorage, directory / "ours", **options)
        self.theirs = Side(ZODB.FileStorage.FileStorage, directory / "theirs", **options)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both, ours first."""
        return self.ours, self.theirs

    def do(self, act: Callable[[Side], Any]) -> Any:
        """Do the same with both; return what it gave, or `Raised`, which has to be equal."""
        ours, theirs = self.outcomes(act)
        self.compare_outcomes(ours, theirs)
        return theirs

    def outcomes(self, act: Callable[[Side], Any]) -> tuple[Any, Any]:
        """Do the same with both; return what it gave, or `Raised`."""
        return self.outcome(self.ours, act), self.outcome(self.theirs, act)

    @staticmethod
    def compare_outcomes(ours: Any, theirs: Any) -> None:
        """Fail unless the two are equal.

        Where ZODB raises a plain `KeyError`, we may raise its own kind of that.
        """
        if theirs == Raised(KeyError) and isinstance(ours, Raised) and ours.type is POSKeyError:
            return
        assert ours == theirs, f"we: {ours}\nZODB: {theirs}"

    @staticmethod
    def outcome(side: Side, act: Callable[[Side], Any]) -> Any:
        """Do something with one of the two; return what it gave, or `Raised`."""
        try:
            return act(side)
        except Exception as error:  # noqa: BLE001 -- which one it is, is the question
            return Raised.of(error, side.directory)

    def open(self) -> None:
        """Open both again.

        After some accidents only we can: then ZODB goes on with the file that we left.
        After others it takes what it cut off for the last transaction, until reopened.
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
        """Let ZODB's storage remember a last transaction that a pack has dropped.

        ZODB forgets it when the file is closed; ours has it in the list of what packs dropped.
        """
        ours, theirs = (side.storage.lastTransaction() for side in self.sides)
        if ours > theirs:
            assert ours in (self.ours.content(".dropped") or b"")
            self.theirs.storage._ltid = ours
            self.theirs.storage._ts = TimeStamp(ours)

    def give_ours(self) -> None:
        """Give ZODB's storage, which is closed, the files of ours, without the index."""
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
        # Of a transaction that is aborted before its vote, ZODB leaves the blobs.
        left = {name for name in theirs.keys() - ours.keys() if not self.is_committed(name)}
        assert ours == {name: theirs[name] for name in theirs.keys() - left}

    def is_committed(self, blob: str) -> bool:
        """Tell whether the transaction that a blob file is named for is there."""
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
