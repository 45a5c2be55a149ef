"""Databases for the tests, closed after each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import transaction

from dobbin.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def open_database(tmp_path: Path) -> Iterator[Callable[..., Database]]:
    """Open instances of one database, by default without syncs."""
    opened: list[Database] = []

    def open_one(name: str = "objects", **options: Any) -> Database:
        opened.append(Database(tmp_path / name, **{"sync": "none", **options}))
        return opened[-1]

    transaction.abort()
    yield open_one
    transaction.abort()
    for database in opened:
        database.close()


@pytest.fixture
def db(open_database: Callable[..., Database]) -> Database:
    return open_database()
