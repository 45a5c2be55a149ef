"""The exceptions of a database.

The objects that they carry are `dobbin.persistent.Persistent` objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transaction.interfaces import TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ConflictError(TransientError):  # type: ignore[misc]
    """A checked-out object was changed by another transaction; a retry may succeed.

    `objects` are the objects in conflict; they show the other transaction's state. `object` is
    the first of them.
    """

    def __init__(self, *objects: Any) -> None:
        super().__init__(*objects)
        self.objects: Sequence[Any] = objects

    @property
    def object(self) -> Any:
        """The first of the objects, None if there are none."""
        return self.objects[0] if self.objects else None

    def __str__(self) -> str:
        return ", ".join(map(object.__repr__, self.objects))


class WriteConflictError(ConflictError):
    """Another thread that uses the same `Database` committed a change."""


class ReadConflictError(ConflictError):
    """Another `Database`, here or in another process, committed a change."""


class RootExistsError(Exception):
    """An object cannot become the root, because the database has one."""


class UnnoticedChangeError(Exception):
    """Shared objects were changed without a checkout; raised only with ``debug=True``.

    `objects` are the changed objects. The changes are not stored; they are discarded.
    """

    def __init__(self, changed: Sequence[tuple[Any, Sequence[str]]]) -> None:
        super().__init__(changed)
        self.objects: Sequence[Any] = [obj for obj, _ in changed]
        self._changed = changed

    def __str__(self) -> str:
        found = "; ".join(
            f"{object.__repr__(obj)}: {', '.join(names)}"[:200] for obj, names in self._changed
        )
        return f"changed in place without a checkout, and discarded: {found}"


class IntegrityError(Exception):
    """The file is damaged, shorter than it was, or not a database; or a sync of it failed.

    The text names the file, the offset and the transaction.
    """


class ObjectGraphError(Exception):
    """An object was checked out to which no object of a database refers."""

    def __init__(self, obj: Any) -> None:
        super().__init__(obj)
        self.object = obj

    def __str__(self) -> str:
        return f"{self.object!r} not connected to graph."


class InvalidObjectReference(Exception):  # noqa: N818 -- the name that users know
    """An object refers to one of another database, or to one that was removed from its own.

    The latter was unreachable from the root when the database was compacted without
    unreachable objects.
    """
