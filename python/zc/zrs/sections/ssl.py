"""The section ``<ssl>`` in this package's sections, whatever it means elsewhere.

In ZConfig, a name stands for one type of section in a whole schema. ZEO already has two types
for the name ``ssl``: one in the schema of ``runzeo``, another in the component for ``%import
ZEO``. A third one would make every configuration of a ZEO server that imports this package
invalid. The type here is therefore called ``zrs.ssl``, and ``<ssl>`` inside this package's
sections means that type. ZConfig has no setting for this, so the two methods that open and
close a section are wrapped.
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
    """Return the type of a section from its name and its parent."""
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
    """Make ZConfig read ``<ssl>`` in this package's sections. Does nothing the second time."""
    if not hasattr(ConfigLoader.startSection, "__wrapped__"):
        ConfigLoader.startSection = _with_our_types(ConfigLoader.startSection)
        ConfigLoader.endSection = _with_our_types(ConfigLoader.endSection)


def authenticate(text: str) -> str:
    """Return the path of a file or directory; raise `ValueError` if it does not exist."""
    check_authenticate(text)
    path: str = existing_path(text)
    return path


def tls_files(section: Any) -> TLSFiles:
    """Return the files that the section's options name."""
    return TLSFiles(
        certificate=section.certificate,
        key=section.key,
        password=section.password_function,
        authenticate=section.authenticate,
        check_hostname=section.check_hostname,
        server_hostname=section.server_hostname,
    )
