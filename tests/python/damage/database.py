"""A small database with all features of the format: an undo, an undone creation, and more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping

if TYPE_CHECKING:
    from pathlib import Path

MANY = 40


def build(path: Path) -> None:
    """Write the database and its index with ZODB."""
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    connection = database.open()
    root = connection.root()
    try:
        for name in "ab":
            root[name] = PersistentMapping()
        _commit("the first two")
        root["a"]["text"] = "one"
        _commit("a is one")
        root["a"]["text"] = "two. " * 20
        root["b"]["made"] = PersistentMapping()
        _commit("to be undone")
        database.undo(database.undoLog(0, 1)[0]["id"])
        _commit("undone")
        root["many"] = [PersistentMapping(number=number) for number in range(MANY)]
        _commit("many")
        root["a"]["text"] = "three"
        root["b"]["text"] = "and b"
        _commit("a is three")
    finally:
        database.close()


def _commit(note: str) -> None:
    transaction.get().note(note)
    transaction.commit()
