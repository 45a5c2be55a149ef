"""The earlier name of `zc.zrs.sections.ssl`: the datatypes of ``<ssl>``."""

from zc.zrs.sections.ssl import authenticate, password_function, tls_files

__all__ = ["authenticate", "password_function", "tls_files"]
