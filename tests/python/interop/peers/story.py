# Python 2.7 runs this file too, so it cannot use modern syntax.
# ruff: noqa: ANN001, ANN201, UP010, UP032
# mypy: allow-untyped-defs, allow-untyped-calls, ignore-errors
"""The commits of the tests, for our primary and for theirs.

Requires ZODB 3.10 or later; Python 2.7 or 3.
"""

from __future__ import print_function, unicode_literals

import os
import sys

import transaction
import ZODB.blob
from persistent.mapping import PersistentMapping

MEBIBYTE = 1 << 20
BLOCK = 1 << 16
BLOBS = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17)

EXTENSION = {
    "path": "/s\xedte/\u2603",
    "count": 70000,
    "share": 0.25,
    "nothing": None,
    "parts": ["a", (1, 2), {"b": [True]}],
}


def native(text):
    """Return the text in the type that this ZODB requires of a user or description."""
    return text.encode("utf-8") if sys.version_info[0] == 2 else text


def commit(manager, text, extension):
    txn = manager.get()
    txn.user = native("fr\xe9d\xe9ric")
    txn.description = native(text)
    for name, value in extension.items():
        txn.setExtendedInfo(name, value)
    manager.commit()


def undo_last(db, manager, extension):
    """Undo the last transaction."""
    manager.begin()
    db.undo(db.undoLog(0, 1)[0]["id"], manager.get())
    commit(manager, "undo", extension)
    manager.begin()


def tell(db, rounds, extension=None):
    """Commit objects, changes, undos, long text, and records of some MiB.

    `extension` goes with every transaction. Returns the last tid.
    """
    extension = extension or {}
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    root = connection.root()
    for number in range(rounds):
        name = "round {} of {}".format(number, len(root))
        root[name] = PersistentMapping({"number": number, "text": "\u2603" * 10000})
        commit(manager, "a r\xf6und", extension)
        root[name]["text"] = "changed"
        commit(manager, "\u2603" * 500, extension)
        undo_last(db, manager, extension)
        undo_last(db, manager, extension)
        root[name]["new"] = PersistentMapping()
        commit(manager, "", extension)
        undo_last(db, manager, extension)
        # The undo of a creation is undone.
        undo_last(db, manager, extension)
    root["large {}".format(len(root))] = PersistentMapping({"data": os.urandom(3 * MEBIBYTE)})
    commit(manager, "large", extension)
    connection.close()
    return db.lastTransaction()


def tell_blobs(db, extension=None):
    """Commit blobs of all lengths, a change of one, its undo, and a change of two.

    Returns the last tid.
    """
    extension = extension or {}
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    root = connection.root()
    name = "blobs {}".format(len(root))
    root[name] = blobs = PersistentMapping()
    for length in BLOBS:
        blobs[length] = blob = ZODB.blob.Blob()
        write(blob, os.urandom(length))
    commit(manager, "bl\xf6bs", extension)
    write(blobs[BLOCK], b"changed")
    commit(manager, "a change", extension)
    undo_last(db, manager, extension)
    write(blobs[1], os.urandom(2 * BLOCK))
    write(blobs[BLOCK + 1], b"short")
    blobs["beside them"] = PersistentMapping()
    commit(manager, "changes", extension)
    connection.close()
    return db.lastTransaction()


def write(blob, contents):
    opened = blob.open("w")
    opened.write(contents)
    opened.close()


def tell_large(db, mebibytes):
    """Commit a record of this many MiB, and a change of it; return the last tid."""
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    root = connection.root()
    for _ in range(2):
        root["very large"] = PersistentMapping({"data": os.urandom(mebibytes * MEBIBYTE)})
        commit(manager, "very large", {})
    root["very large"]["data"] = os.urandom(mebibytes * MEBIBYTE)
    commit(manager, "changed", {})
    connection.close()
    return db.lastTransaction()
