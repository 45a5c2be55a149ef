"""Which objects have their state in memory, so that some can be let go."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dobbin.persistent import Persistent


class Loaded:
    """The objects of a database in the order in which they were loaded, with sizes.

    `limit` is how many bytes of pickles may stay, None for any number.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._total = 0
        self._sizes: OrderedDict[int, tuple[weakref.ref[Persistent], int]] = OrderedDict()

    def note(self, obj: Persistent, size: int) -> None:
        """Take in an object that was loaded or written."""
        if self.limit is not None and obj._p_oid is not None:
            self._forget(obj._p_oid)
            self._sizes[obj._p_oid] = weakref.ref(obj), size
            self._total += size

    def _forget(self, oid: int) -> None:
        known = self._sizes.pop(oid, None)
        if known is not None:
            self._total -= known[1]

    def shrink(self, let_go: Callable[[Persistent], bool]) -> None:
        """Let go of what was loaded first until the rest is within the limit."""
        if self.limit is None:
            return
        for oid in list(self._sizes):
            if self._total <= self.limit:
                return
            obj = self._sizes[oid][0]()
            if obj is None or let_go(obj):
                self._forget(oid)
