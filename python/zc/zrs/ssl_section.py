"""The datatypes of ``<ssl>`` by their earlier name."""

from zc.zrs.sections.datatypes import password_function
from zc.zrs.sections.ssl import authenticate, tls_files

__all__ = ["authenticate", "password_function", "tls_files"]
