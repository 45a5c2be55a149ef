"""``zkrunzeo``: a ZEO server that registers its address in ZooKeeper.

This module is the program, which prints what to install if ZEO or kazoo is missing. It also
exports the contents of `zc.zkzeo.server`.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from zc.zkzeo import NEEDS

if TYPE_CHECKING:
    from zc.zkzeo.server import Options, Server, test

__all__ = ["Options", "Server", "main", "test"]


def main(args: list[str] | None = None) -> None:
    """Run a server until a signal ends it."""
    try:
        server = importlib.import_module("zc.zkzeo.server")
    except ModuleNotFoundError as error:
        sys.exit(f"zkrunzeo {NEEDS} ({error})")
    server.main(args)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("zc.zkzeo.server"), name)


if __name__ == "__main__":
    main()
