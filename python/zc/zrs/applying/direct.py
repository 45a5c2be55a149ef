"""Selection of the storages to which the native code applies transactions without Python."""

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
"""Methods that the native code bypasses; a storage that overrides one must not be bypassed."""


def list_place(storage: Any) -> tuple[_zrs.FileStorageBase | str, _zrs.Feed | None] | None:
    """Return the Data.fs to which a storage's list of dropped transactions belongs, or None.

    The second value is the feed of a primary that serves that file, if any.
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
    """Return the target for the native code, None for a storage that it must not bypass.

    A target is a `zc.zrs.filestorage.FileStorage`, possibly wrapped by a primary, which
    publishes durable transactions. Subclasses and storages with overridden methods are not
    targets.
    """
    feed = None
    if type(storage) is Primary:
        if not _APPLYING.isdisjoint(vars(storage)):
            return None
        storage, feed = replicated(storage)
    if type(storage) is not FileStorage or not _APPLYING.isdisjoint(vars(storage)):
        return None
    return _zrs.DirectTarget(storage, feed)
