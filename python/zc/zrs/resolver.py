"""The zodburi resolver for ``zrsfile://``: a storage in a file, written in Rust.

It takes what zodburi's own ``file://`` takes (``create``, ``read_only``, ``quota``,
``blobstorage_dir``, ``blobstorage_layout``), and further arguments of
`zc.zrs.filestorage.FileStorage`: ``blob_dir``, ``pack_gc``, ``pack_keep_old`` and
``commit_sync``. All others are the database's.
"""

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from ZODB.blob import BlobStorage
from zodburi.datatypes import convert_bytesize, convert_int

from zc.zrs.filestorage import FileStorage

SCHEME = "zrsfile://"

_CONVERT: dict[str, Callable[[str], Any]] = {
    "create": convert_int,
    "read_only": convert_int,
    "pack_gc": convert_int,
    "pack_keep_old": convert_int,
    "quota": convert_bytesize,
    "blob_dir": str,
    "commit_sync": str,
}


def resolve(uri: str) -> tuple[Callable[[], Any], dict[str, str]]:
    """Return what opens the storage, and the arguments that are left for the database.

    Raises `ValueError` for another scheme and for values that an argument cannot have.
    """
    if not uri.startswith(SCHEME):
        raise ValueError(f"{uri!r} does not begin with {SCHEME}")
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    rest = dict(parse_qsl(query))
    options = {name: _CONVERT[name](rest.pop(name)) for name in _CONVERT if name in rest}
    directory = rest.pop("blobstorage_dir", None)
    layout = rest.pop("blobstorage_layout", "automatic")
    if directory is not None and "blob_dir" in options:
        raise ValueError(f"{uri!r} has both blob_dir and blobstorage_dir")

    def open_storage() -> Any:
        storage = FileStorage(os.path.normpath(path), **options)
        if directory is None:
            return storage
        try:
            return BlobStorage(directory, storage, layout=layout)
        except BaseException:
            storage.close()
            raise

    return open_storage, rest
