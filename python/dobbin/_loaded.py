"""The objects whose states are in memory, so that some can be unloaded."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin._slots import Slots


class Loaded:
    """The loaded objects of a database with their sizes, those loaded first in front.

    `limit` is the maximum number of bytes of pickles that may stay loaded, None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._total = 0
        self._sizes: OrderedDict[int, tuple[weakref.ref[Slots], int]] = OrderedDict()

    def note(self, obj: Slots, size: int) -> None:
        """Add an object that was loaded or written."""
        if self.limit is not None and obj._p_oid is not None:
            self._forget(obj._p_oid)
            self._sizes[obj._p_oid] = weakref.ref(obj), size
            self._total += size

    def _forget(self, oid: int) -> None:
        known = self._sizes.pop(oid, None)
        if known is not None:
            self._total -= known[1]

    def shrink(self, unload: Callable[[Slots], bool]) -> None:
        """Unload the objects that were loaded first until the rest is within the limit."""
        if self.limit is None:
            return
        for oid in list(self._sizes):
            if self._total <= self.limit:
                return
            obj = self._sizes[oid][0]()
            if obj is None or unload(obj):
                self._forget(oid)
