"""Selection of the file storage: ZODB's in Python, or the one in Rust.

Both read and write the same files. `open_file_storage` opens a path if the user has not passed
a storage. It never empties a blob directory, except with `create`.
"""

from pathlib import Path
from typing import Any, Literal

import ZODB.FileStorage

import zc.zrs.filestorage
from zc.zrs.files.blobs import check_blobs_unused, check_layout
from zc.zrs.files.lock_files import real_path

Engine = Literal["python", "rust"]

ENGINES: tuple[Engine, ...] = ("python", "rust")
DEFAULT_ENGINE: Engine = "rust"


def engine_or_default(engine: Engine | None) -> Engine:
    """Return the engine, or the default one for None."""
    return DEFAULT_ENGINE if engine is None else engine


def open_file_storage(
    path: str, engine: Engine | None = None, *, shared_blobs: bool = False, **options: Any
) -> Any:
    """Return the storage in the file at `path`, which is created if it does not exist.

    `options` are the arguments of ZODB's FileStorage. With `shared_blobs`, the blobs belong to
    another storage, and are kept when the file is created. Raises the exceptions of the engine.
    Raises `ZODB.FileStorage.FileStorage.FileStorageError` if the file is missing although there
    are blobs, and for a directory that is not a blob directory, such as a ZEO client's cache.
    """
    if options.get("blob_dir"):
        check_layout(options["blob_dir"])
    if options.get("blob_dir") and not (options.get("create") or options.get("read_only")):
        make_beside_blobs(path, options["blob_dir"], engine, shared=shared_blobs)
    if engine_or_default(engine) == "python":
        # ZODB's lock file and renames use the path as given.
        path = real_path(path)
    return _class(engine)(path, **options)


def make_beside_blobs(
    path: str, blob_dir: str, engine: Engine | None = None, *, shared: bool
) -> None:
    """Create a missing file without changing an existing blob directory.

    Raises `ZODB.FileStorage.FileStorage.FileStorageError` if there are blobs that are not
    shared.
    """
    if Path(path).exists():
        return
    if not shared:
        check_blobs_unused(path, blob_dir)
    if shared or Path(blob_dir).is_mount():
        # ZODB's storage would remove the directory, which fails for a mount point.
        _class(engine)(path).close()


def _class(engine: Engine | None) -> Any:
    if engine_or_default(engine) == "rust":
        return zc.zrs.filestorage.FileStorage
    return ZODB.FileStorage.FileStorage
