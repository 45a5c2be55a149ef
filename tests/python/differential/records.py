"""Data records of typical objects: objects with references, counters, blobs."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from persistent.mapping import PersistentMapping
from ZODB._compat import PersistentPickler, _protocol
from ZODB.blob import Blob
from ZODB.tests.ConflictResolution import PCounter
from ZODB.utils import p64

if TYPE_CHECKING:
    from collections.abc import Sequence

Reference = tuple[Literal["class", "bare", "weak", "elsewhere"], int]


class _Target:
    """An object that is pickled as a persistent reference of this form."""

    def __init__(self, form: str, number: int) -> None:
        self.form, self.oid = form, p64(number)

    def persistent_id(self) -> Any:
        return {
            "class": (self.oid, PersistentMapping),
            "bare": self.oid,
            "weak": ["w", (self.oid,)],
            "elsewhere": ["n", ("other", self.oid)],
        }[self.form]


def _pickle(cls: type, state: Any) -> bytes:
    """Return a class and a state, pickled as in ZODB's serialization."""
    written = BytesIO()

    def persistent_id(obj: Any) -> Any:
        return obj.persistent_id() if isinstance(obj, _Target) else None

    pickler = PersistentPickler(persistent_id, written, _protocol)
    pickler.dump(cls)
    pickler.dump(state)
    return written.getvalue()


def mapping(text: str, references: Sequence[Reference]) -> bytes:
    """Return the record of a mapping; references are to the oids of these numbers."""
    targets = [_Target(form, number) for form, number in references]
    return _pickle(PersistentMapping, {"data": {"text": text, "references": targets}})


def counter(value: int) -> bytes:
    """Return the record of an object that resolves conflicts by addition."""
    return _pickle(PCounter, {"_value": value})


def blob() -> bytes:
    """Return the record of a blob."""
    return _pickle(Blob, None)
