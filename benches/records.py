"""Records as ZODB writes them, for measured files."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from persistent.mapping import PersistentMapping
from ZODB._compat import PersistentPickler, _protocol
from ZODB.utils import p64

RECORD_LENGTH = 300
# Length of a record without its text.
OVERHEAD = 130


def record(oid: int, references: list[int], length: int = RECORD_LENGTH) -> bytes:
    """Return an object's record of about this length, with references to other objects."""

    class Target:
        def __init__(self, number: int) -> None:
            self.oid = p64(number)

    def persistent_id(obj: Any) -> Any:
        return (obj.oid, PersistentMapping) if isinstance(obj, Target) else None

    written = BytesIO()
    pickler = PersistentPickler(persistent_id, written, _protocol)
    pickler.dump(PersistentMapping)
    text = f"{oid}".ljust(length - OVERHEAD, ".")
    pickler.dump({"data": {"text": text, "to": [Target(number) for number in references]}})
    return written.getvalue()
