"""The ``<ssl>`` section in ours, whatever ``<ssl>`` means elsewhere in a configuration.

ZConfig has one name for one type of section in a whole schema, and ZEO has two types for
the name ``ssl``: one in the schema of ``runzeo``, another in the component that
``%import ZEO`` brings. A third one of that name would make every configuration of a ZEO
server that imports this package an error. So ours has the name ``zrs.ssl``, and inside our
sections ``<ssl>`` is read as that. ZConfig has no place to say so: the two methods that
open and close a section are wrapped.
"""

import functools
from collections.abc import Callable
from typing import Any

from ZConfig.datatypes import existing_path
from ZConfig.loader import ConfigLoader

from zc.zrs.tls import TLSFiles, check_authenticate

NAME = "ssl"
TYPE = "zrs.ssl"


def _type_in(parent: Any, type_: str) -> str:
    """Return the type that a section's name stands for in its parent."""
    if type_ == NAME and any(
        info.issection() and info.sectiontype.name == TYPE for _, info in parent.type
    ):
        return TYPE
    return type_


def _with_our_types(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: Any, parent: Any, type_: str, *args: Any) -> Any:
        return method(self, parent, _type_in(parent, type_), *args)

    return wrapper


def install() -> None:
    """Make ZConfig read ``<ssl>`` in our sections. Done again, it does nothing."""
    if not hasattr(ConfigLoader.startSection, "__wrapped__"):
        ConfigLoader.startSection = _with_our_types(ConfigLoader.startSection)
        ConfigLoader.endSection = _with_our_types(ConfigLoader.endSection)


def authenticate(text: str) -> str:
    """Return the path of a file or directory; raise `ValueError` for anything else."""
    check_authenticate(text)
    path: str = existing_path(text)
    return path


def tls_files(section: Any) -> TLSFiles:
    """Return what the section's options stand for."""
    return TLSFiles(
        certificate=section.certificate,
        key=section.key,
        password=section.password_function,
        authenticate=section.authenticate,
        check_hostname=section.check_hostname,
        server_hostname=section.server_hostname,
    )
