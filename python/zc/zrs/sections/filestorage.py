"""The options of a file storage in ZConfig, and the section ``<zrsfilestorage>``."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import ZConfig
import ZODB.config

from zc.zrs.files.commit_sync import COMMIT_SYNCS
from zc.zrs.filestorage import FileStorage

_OPTIONS = ("blob_dir", "create", "read_only", "quota", "pack_gc", "pack_keep_old")


def file_storage_options(config: Any) -> dict[str, Any]:
    """Return the arguments of a FileStorage except its path, from a section's values."""
    options = {name: getattr(config, name) for name in _OPTIONS}
    if config.packer:
        options["packer"] = _packer(config.packer)
    return {name: value for name, value in options.items() if value is not None}


def nested_file_storages(section: Any) -> Iterator[Any]:
    """Yield the values of each file storage section in a storage's section, at any depth.

    This includes the section itself.
    """
    values = getattr(section, "config", None)
    if isinstance(section, ZODB.config.FileStorage | FileStorageSection):
        yield values
    elif values is not None and hasattr(values, "getSectionAttributes"):
        for attribute in values.getSectionAttributes():
            value = getattr(values, attribute)
            for nested in value if isinstance(value, list) else [value]:
                yield from nested_file_storages(nested)


def nested_blob_directories(section: Any) -> Iterator[str]:
    """Yield the blob directory of each storage in a storage's section, at any depth.

    The directory of a ZEO client does not count, because it is a cache.
    """
    values = getattr(section, "config", None)
    if values is None:
        return
    is_of_files = isinstance(section, ZODB.config.FileStorage | FileStorageSection)
    if (is_of_files or isinstance(section, ZODB.config.BlobStorage)) and values.blob_dir:
        yield values.blob_dir
    if hasattr(values, "getSectionAttributes"):
        for attribute in values.getSectionAttributes():
            value = getattr(values, attribute)
            for nested in value if isinstance(value, list) else [value]:
                yield from nested_blob_directories(nested)


def _packer(name: str) -> Callable[..., Any]:
    """Return the object of a dotted name, or of ``module:expression``."""
    if ":" in name:
        module, expression = name.split(":", 1)
        names = vars(importlib.import_module(module))
        return _callable(eval(expression, names))  # noqa: S307 -- ZODB's syntax
    module, attribute = name.rsplit(".", 1)
    return _callable(getattr(importlib.import_module(module), attribute))


def _callable(packer: Any) -> Callable[..., Any]:
    if not callable(packer):
        raise ZConfig.ConfigurationError(f"packer {packer!r} is not callable")
    found: Callable[..., Any] = packer
    return found


class FileStorageSection(ZODB.config.BaseConfig):  # type: ignore[misc]
    """``<zrsfilestorage>``."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.commit_sync not in COMMIT_SYNCS:
            name = f" {self.name}" if self.name else ""
            raise ZConfig.ConfigurationError(
                f"<{config.getSectionType()}{name}> has commit-sync {config.commit_sync}:"
                f" it must be {' or '.join(COMMIT_SYNCS)}"
            )

    def open(self, database_name: str = "unnamed", databases: Any = None) -> FileStorage:  # noqa: ARG002 -- ZODB.config's signature
        """Open the storage."""
        options = file_storage_options(self.config)
        return FileStorage(self.config.path, commit_sync=self.config.commit_sync, **options)
