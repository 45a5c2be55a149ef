"""What a database raises beside the usual exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transaction.interfaces import TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dobbin.persistent import Persistent


class ConflictError(TransientError):  # type: ignore[misc]
    """A checked-out object was changed by another transaction; trying again may help.

    `objects` are those that were; they show the other transaction's state. `object` is the
    first of them.
    """

    def __init__(self, *objects: Persistent) -> None:
        super().__init__(*objects)
        self.objects: Sequence[Persistent] = objects

    @property
    def object(self) -> Persistent | None:
        """The first of the objects."""
        return self.objects[0] if self.objects else None

    def __str__(self) -> str:
        return ", ".join(map(object.__repr__, self.objects))


class WriteConflictError(ConflictError):
    """Another thread that uses the same `Database` committed a change."""


class ReadConflictError(ConflictError):
    """Another `Database`, here or in another process, committed a change."""


class RootExistsError(Exception):
    """An object was to be made the root of a database that has one."""


class UnnoticedChangeError(Exception):
    """Shared objects were changed without a checkout; raised only with ``debug=True``.

    `objects` are those that were. The changes are not stored; they are discarded.
    """

    def __init__(self, changed: Sequence[tuple[Persistent, Sequence[str]]]) -> None:
        super().__init__(changed)
        self.objects: Sequence[Persistent] = [obj for obj, _ in changed]
        self._changed = changed

    def __str__(self) -> str:
        found = "; ".join(
            f"{object.__repr__(obj)}: {', '.join(names)}"[:200] for obj, names in self._changed
        )
        return f"changed in place without a checkout, and discarded: {found}"


class IntegrityError(Exception):
    """The file is damaged or shorter than it was, is no database, or a sync of it failed.

    The text names the file, the offset and the transaction.
    """


class ObjectGraphError(Exception):
    """An object was checked out that no object of a database refers to."""

    def __init__(self, obj: Persistent) -> None:
        super().__init__(obj)
        self.object = obj

    def __str__(self) -> str:
        return f"{self.object!r} not connected to graph."


class InvalidObjectReference(Exception):  # noqa: N818 -- the name that users know
    """An object refers to one of another database, or to one that its own has no more.

    The latter was unreachable from the root when the database was compacted without such
    objects.
    """
