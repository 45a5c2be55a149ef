"""Puts our FileStorage in the place of ZODB's, in every process that imports this.

Python imports this module at its start where its directory is on PYTHONPATH, so the
servers that ZEO's tests start use our class too. The name that DB, ZConfig sections and
tests look up is replaced, in both modules that have it. ZODB's own class stays only where
nobody finds it, and it refuses to be opened: no test can pass on it by mistake.
"""

from __future__ import annotations

import importlib
from typing import Any, NoReturn

import ZODB.FileStorage

from zc.zrs.filestorage import FileStorage

# The package's attribute of this name is the class, which hides the module.
module = importlib.import_module("ZODB.FileStorage.FileStorage")
replaced = module.FileStorage


def refuse(self: object, *_: Any, **__: Any) -> NoReturn:
    """Stand in for the constructor of ZODB's class."""
    raise AssertionError(f"{type(self).__qualname__} is still ZODB's own class")


replaced.__init__ = refuse
module.FileStorage = FileStorage  # type: ignore[attr-defined]
ZODB.FileStorage.FileStorage = FileStorage
