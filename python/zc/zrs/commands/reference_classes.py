"""The classes that an object's record gives for the objects that it refers to.

The record's pickles are loaded with stand-ins for all classes, so nothing that the record names
is imported or called.
"""

import io
import pickle
from typing import Any


def reference_classes(data: bytes) -> dict[bytes, str]:
    """Return the known dotted names of classes by oids."""
    unpickler = _Unpickler(io.BytesIO(data), fix_imports=False, encoding="bytes")
    # Damage of the record is reported elsewhere.
    try:
        unpickler.load()
        unpickler.load()
    except Exception:  # noqa: BLE001 -- pickles can raise anything
        return unpickler.classes
    return unpickler.classes


class _Unpickler(pickle.Unpickler):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.classes: dict[bytes, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_StandIn,), {"__module__": module})

    def persistent_load(self, reference: Any) -> Any:
        match reference:
            case (bytes(oid), type() as cls):
                self.classes[oid] = f"{cls.__module__}.{cls.__qualname__}"
            case (bytes(oid), (module, name)):
                self.classes[oid] = ".".join(map(_text, (module, name)))
        return _StandIn()


class _StandIn:
    """Accepts every operation of a pickle on an object."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass

    def update(self, items: Any) -> None:
        pass


def _text(name: object) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)
