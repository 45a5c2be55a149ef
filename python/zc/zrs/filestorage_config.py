"""The earlier name of `zc.zrs.sections.filestorage`: the datatype of ``<zrsfilestorage>``."""

from zc.zrs.sections.filestorage import FileStorageSection

__all__ = ["FileStorageSection"]
