"""Replication for ZODB: primary and secondary storages.

`zc.zrs.primary.Primary` and `zc.zrs.secondary.Secondary` are the storages; this package exports
both. ZConfig files use ``%import zc.zrs``; the command is ``zrs``.
"""

from importlib import import_module
from typing import Any

_MODULES = {"Primary": "zc.zrs.primary", "Secondary": "zc.zrs.secondary"}


def __getattr__(name: str) -> Any:
    # Imported on first use: `import zc.zrs` loads neither ZODB nor the native module.
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(module), name)
