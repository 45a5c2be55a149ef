"""Objects as pickles, and back.

A pickle refers to an object as ``("o", oid, module, class)`` and to a stream as
``("s", oid)``. A full record is the pickle of module, class, attributes and items (None
unless the object is a dictionary). A record of changes is the pickle of attributes set,
attributes deleted, items set, items deleted.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Protocol, TypeAlias

from dobbin._classes import PersistentType
from dobbin._files import PersistentFile
from dobbin._streams import PersistentStream

PROTOCOL = 5
# The most frequent types in pickles, which are never references.
PLAIN = frozenset({dict, list, tuple, set, str, bytes, int, float, bool, type(None)})


StreamLike: TypeAlias = "PersistentFile | PersistentStream"


class ReferenceMaker(Protocol):
    """Makes the references in a pickle."""

    def refer_to_object(self, obj: Any) -> tuple[str, int, str, str]:
        """Return the reference to an object."""

    def refer_to_stream(self, obj: StreamLike) -> tuple[str, int]:
        """Return the reference to a stream."""


class ReferenceResolver(Protocol):
    """Finds the classes and objects to which a pickle refers."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function of a name."""

    def resolve_reference(self, reference: Any) -> Any:
        """Return the object or stream of a reference."""


class Pickler(pickle.Pickler):
    """Pickles the state of an object."""

    def __init__(self, file: io.BytesIO, references: ReferenceMaker) -> None:
        super().__init__(file, PROTOCOL)
        self._references = references

    @classmethod
    def dumped(cls, value: Any, references: ReferenceMaker) -> bytes:
        """Return the pickle of a value."""
        file = io.BytesIO()
        cls(file, references).dump(value)
        return file.getvalue()

    def persistent_id(self, obj: Any) -> Any:
        """Return the reference to an object or stream, None for anything else."""
        if type(obj) in PLAIN:
            return None
        if isinstance(type(obj), PersistentType):
            return self._references.refer_to_object(obj)
        if isinstance(obj, (PersistentFile, PersistentStream)):
            return self._references.refer_to_stream(obj)
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, resolver: ReferenceResolver) -> None:
        super().__init__(io.BytesIO(data))
        self._resolver = resolver

    def find_class(self, module: str, name: str) -> Any:
        return self._resolver.find_class(module, name)

    def persistent_load(self, reference: Any) -> Any:
        return self._resolver.resolve_reference(reference)


State = tuple[tuple[str, str], dict[str, Any], "dict[Any, Any] | None"]


def load_state(pickles: list[bytes], resolver: ReferenceResolver) -> State:
    """Return the class's name, attributes and items that a full record and changes give."""
    full, *changes = pickles
    module, name, attributes, items = _Unpickler(full, resolver).load()
    for data in changes:
        changed, deleted, items_changed, items_deleted = _Unpickler(data, resolver).load()
        for key in deleted:
            attributes.pop(key, None)
        attributes.update(changed)
        for key in items_deleted:
            items.pop(key, None)
        if items_changed:
            items.update(items_changed)
    return (module, name), attributes, items
