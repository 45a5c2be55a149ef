"""Replication for ZODB: primary and secondary storages.

`zc.zrs.primary.Primary` and `zc.zrs.secondary.Secondary` are the storages, which are also
found here by these names; ZConfig files say ``%import zc.zrs``; the command is ``zrs``.
"""

from importlib import import_module
from typing import Any

_MODULES = {"Primary": "zc.zrs.primary", "Secondary": "zc.zrs.secondary"}


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: `import zc.zrs` alone loads neither ZODB nor the core.
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(module), name)
