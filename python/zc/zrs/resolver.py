"""The zodburi resolver for ``zrsfile://``: a storage in a file, implemented in Rust.

It supports the options of zodburi's own ``file://`` (``create``, ``read_only``, ``quota``,
``demostorage``, ``blobstorage_dir``, ``blobstorage_layout``), and further arguments of
`zc.zrs.filestorage.FileStorage`: ``blob_dir``, ``pack_gc``, ``pack_keep_old`` and
``commit_sync``. All other options belong to the database. An absolute path can also be written
with one slash, as `urllib.parse.urlunsplit` of some versions of Python writes a URI without a
host.
"""

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from ZODB.blob import LAYOUTS, BlobStorage
from ZODB.DemoStorage import DemoStorage
from zodburi.datatypes import convert_bytesize, convert_int

from zc.zrs.files.blobs import check_layout
from zc.zrs.filestorage import FileStorage

SCHEME = "zrsfile://"
_NORMALISED = "zrsfile:/"
"""The result of urllib's functions for three slashes, for schemes unknown to them."""

AUTOMATIC = "automatic"
"""Use the existing layout of a blob directory, or ZODB's default."""

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
    """Return a function that opens the storage, and the remaining arguments, for the database.

    Raises `ValueError` for another scheme and for invalid values.
    """
    path, _, query = _after_scheme(uri).partition("?")
    rest = dict(parse_qsl(query))
    # As for file://, any value enables it.
    demo = rest.pop("demostorage", None) is not None
    options = {name: _CONVERT[name](rest.pop(name)) for name in _CONVERT if name in rest}
    directory = rest.pop("blobstorage_dir", None)
    layout = rest.pop("blobstorage_layout", AUTOMATIC)
    if layout not in {AUTOMATIC, *LAYOUTS}:
        raise ValueError(f"{uri} has an unknown blobstorage_layout {layout}")
    if directory is not None and "blob_dir" in options:
        raise ValueError(f"{uri!r} has both blob_dir and blobstorage_dir")

    def open_base() -> Any:
        if directory is not None and layout == AUTOMATIC:
            check_layout(directory)
        storage = FileStorage(os.path.normpath(path), **options)
        if directory is None:
            return storage
        try:
            return BlobStorage(directory, storage, layout=layout)
        except BaseException:
            storage.close()
            raise

    def open_storage() -> Any:
        base = open_base()
        return DemoStorage(base=base) if demo else base

    return open_storage, rest


def _after_scheme(uri: str) -> str:
    if uri.startswith(SCHEME):
        return uri.removeprefix(SCHEME)
    if uri.startswith(_NORMALISED):
        return "/" + uri.removeprefix(_NORMALISED)
    raise ValueError(f"{uri!r} does not begin with {SCHEME}")
