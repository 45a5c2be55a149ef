"""Which storages the native code may apply a secondary's transactions to by itself."""

from typing import Any

from zc.zrs import _zrs
from zc.zrs.filestorage import FileStorage
from zc.zrs.primary import Primary, replicated

_APPLYING = frozenset(
    ["restore", "restoreBlob", "tpc_abort", "tpc_begin", "tpc_finish", "tpc_vote"]
)
"""Methods that are not called then, so nobody may have replaced them."""


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
