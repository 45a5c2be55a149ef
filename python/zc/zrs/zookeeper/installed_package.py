"""A check that the package ``zc.zk`` belongs to this distribution.

The older distributions ``zc.zk`` and ``zc.zkzeo`` have packages of the same names. The one that
is installed later overwrites files of the other.
"""

import contextlib
import importlib
import importlib.metadata
import warnings

OTHERS = ("zc.zk", "zc.zkzeo")

CURE = (
    "run pip uninstall zc.zk zc.zkzeo, then pip install --force-reinstall --no-deps zrs with"
    " the version that you use"
)


def others_installed() -> list[str]:
    """Return the other distributions, with their versions, that have packages of these names."""
    found = []
    for name in OTHERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def check_zk_package() -> None:
    """Raise `ImportError`, with what to do, if another distribution has replaced ``zc.zk``.

    Warns if another one is installed but the package is still this distribution's: removing
    that one removes files that both have.
    """
    others = others_installed()
    if not others:
        return
    try:
        package = importlib.import_module("zc.zk")
        is_ours = getattr(package, "DISTRIBUTION", None) == "zrs"
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "kazoo":
            return  # modules that require it report that
        is_ours = False
    except (ImportError, SyntaxError, AttributeError):
        is_ours = False
    if not is_ours:
        raise ImportError(
            f"{' and '.join(others)} replaced files of zrs, which includes these"
            f" packages: {CURE}"
        )
    warnings.warn(
        f"{' and '.join(others)} contains files with the same names as files of zrs,"
        f" which includes these packages: {CURE}",
        stacklevel=3,
    )
