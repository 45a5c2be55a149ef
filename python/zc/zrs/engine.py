"""Which of the two storages in a file is used: ZODB's in Python, or the one in Rust.

Both read and write the same files. `open_file_storage` is how this package opens a path
where the user has not made a storage.
"""

from typing import Any, Literal

import ZODB.FileStorage

import zc.zrs.filestorage

Engine = Literal["python", "rust"]

ENGINES: tuple[Engine, ...] = ("python", "rust")
DEFAULT_ENGINE: Engine = "rust"


def chosen(engine: Engine | None) -> Engine:
    """Return the engine, the default one if none is named."""
    return DEFAULT_ENGINE if engine is None else engine


def open_file_storage(path: str, engine: Engine | None = None, **options: Any) -> Any:
    """Return the storage in the file at `path`, which is made if it is not there.

    `options` are the arguments of ZODB's FileStorage. Raises what the engine raises.
    """
    if chosen(engine) == "rust":
        return zc.zrs.filestorage.FileStorage(path, **options)
    return ZODB.FileStorage.FileStorage(path, **options)
