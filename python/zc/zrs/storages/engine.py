"""Which of the two storages in a file is used: ZODB's in Python, or the one in Rust.

Both read and write the same files. `open_file_storage` is how this package opens a path
where the user has not made a storage. Opening never empties a directory of blobs, unless
`create` asks for it.
"""

from pathlib import Path
from typing import Any, Literal

import ZODB.FileStorage

import zc.zrs.filestorage
from zc.zrs.files.blobs import check_layout, refuse_to_empty
from zc.zrs.files.lock_files import real_path

Engine = Literal["python", "rust"]

ENGINES: tuple[Engine, ...] = ("python", "rust")
DEFAULT_ENGINE: Engine = "rust"


def chosen(engine: Engine | None) -> Engine:
    """Return the engine, the default one if none is named."""
    return DEFAULT_ENGINE if engine is None else engine


def open_file_storage(
    path: str, engine: Engine | None = None, *, shared_blobs: bool = False, **options: Any
) -> Any:
    """Return the storage in the file at `path`, which is made if it is not there.

    `options` are the arguments of ZODB's FileStorage. With `shared_blobs` its blobs are
    another storage's, and stay when the file is made. Raises what the engine raises, and
    `ZODB.FileStorage.FileStorage.FileStorageError` for a file that is not there though
    blobs are, and for a directory that is not one of blobs, such as a ZEO client's cache.
    """
    if options.get("blob_dir"):
        check_layout(options["blob_dir"])
    if options.get("blob_dir") and not (options.get("create") or options.get("read_only")):
        make_beside_blobs(path, options["blob_dir"], engine, shared=shared_blobs)
    if chosen(engine) == "python":
        # Its lock file and its renames are those of the path that it is given.
        path = real_path(path)
    return _class(engine)(path, **options)


def make_beside_blobs(
    path: str, blob_dir: str, engine: Engine | None = None, *, shared: bool
) -> None:
    """Make a file that is not there without touching the blobs that are.

    Raises `ZODB.FileStorage.FileStorage.FileStorageError` if there are some, and they are not
    shared.
    """
    if Path(path).exists():
        return
    if not shared:
        refuse_to_empty(path, blob_dir)
    if shared or Path(blob_dir).is_mount():
        # ZODB's storage would remove the directory, which a mount point cannot be.
        _class(engine)(path).close()


def _class(engine: Engine | None) -> Any:
    if chosen(engine) == "rust":
        return zc.zrs.filestorage.FileStorage
    return ZODB.FileStorage.FileStorage
