"""A program that stores a stream and reads it: path, size in MiB.

Prints the maximum growth of its memory, and the number of bytes read.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

import transaction

from dobbin.database import Database
from dobbin.persistent import PersistentDict, PersistentFile, checkout

MIB = 1 << 20


class Source:
    """A stream that is generated while it is read."""

    def __init__(self, length: int) -> None:
        self._rest = length

    def read(self, size: int) -> bytes:
        length = min(size, self._rest)
        self._rest -= length
        return bytes(length)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(path: str, length: int) -> None:
    db = Database(path, sync="none")
    root: Any = PersistentDict(small=PersistentFile(Source(MIB)))
    db.elect(root)
    transaction.commit()
    before = peak()
    checkout(root)
    root["large"] = PersistentFile(Source(length))
    transaction.commit()
    read = sum(map(len, root["large"]))
    sys.stdout.write(f"{peak() - before} {read}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) * MIB)
