"""Replace ZODB's FileStorage with ours in every process that imports this module.

Python imports this module at startup if its directory is on PYTHONPATH, so the servers that
ZEO's tests start use our class too. It replaces the name that DB, ZConfig sections and tests
look up, in both modules that have it. ZODB's own class refuses to be opened, so no test can
pass on it by mistake. Each opening of our class appends its process id to the file that
ZRS_SUITES_OPENED names.
"""

from __future__ import annotations

import importlib
import os
from functools import wraps
from typing import Any, NoReturn

import ZODB.FileStorage

from zc.zrs.filestorage import FileStorage

# The package's attribute of this name is the class, which hides the module.
module = importlib.import_module("ZODB.FileStorage.FileStorage")
replaced = module.FileStorage


def refuse(self: object, *_: Any, **__: Any) -> NoReturn:
    """Replace the constructor of ZODB's class."""
    raise AssertionError(f"{type(self).__qualname__} is still ZODB's own class")


replaced.__init__ = refuse
opens = FileStorage.__init__


@wraps(opens)
def count(self: FileStorage, *arguments: Any, **options: Any) -> None:
    """Open our class, and record the process."""
    opens(self, *arguments, **options)
    if path := os.environ.get("ZRS_SUITES_OPENED"):
        # A single write, which is not mixed with those of other processes.
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, b"%d\n" % os.getpid())
        os.close(file)


FileStorage.__init__ = count  # type: ignore[method-assign]
module.FileStorage = FileStorage  # type: ignore[attr-defined]
ZODB.FileStorage.FileStorage = FileStorage
