"""Which storages the native code may apply a secondary's transactions to by itself."""

from typing import Any

import ZODB.FileStorage

from zc.zrs import _zrs
from zc.zrs.filestorage import FileStorage
from zc.zrs.iterator import data_path
from zc.zrs.primary import Primary, replicated
from zc.zrs.storages.wrapper import unwrapped

_APPLYING = frozenset(
    ["restore", "restoreBlob", "tpc_abort", "tpc_begin", "tpc_finish", "tpc_vote"]
)
"""Methods that are not called then, so nobody may have replaced them."""


def list_place(storage: Any) -> tuple[_zrs.FileStorageBase | str, _zrs.Feed | None] | None:
    """Return beside which Data.fs a storage's list of dropped transactions is, None for none.

    With the feed of a primary that serves others from that file.
    """
    feed = None
    if isinstance(storage, Primary):
        storage, feed = replicated(storage)
    storage = unwrapped(storage)
    if isinstance(storage, _zrs.FileStorageBase):
        return storage, feed
    if isinstance(storage, ZODB.FileStorage.FileStorage):
        return data_path(storage), feed
    return None


def direct_target(storage: Any) -> _zrs.DirectTarget | None:
    """Return what the native code applies to, None for a storage that it must not bypass.

    That is our FileStorage itself, or one within a primary, which publishes what becomes
    durable; not a subclass, nor a storage with methods of its own.
    """
    feed = None
    if type(storage) is Primary:
        if not _APPLYING.isdisjoint(vars(storage)):
            return None
        storage, feed = replicated(storage)
    if type(storage) is not FileStorage or not _APPLYING.isdisjoint(vars(storage)):
        return None
    return _zrs.DirectTarget(storage, feed)
