"""The report of a primary or secondary on its own storage, and its status server.

It must not depend on replication.
"""

from collections.abc import Iterable
from typing import Any

from ZODB.interfaces import IBlobStorage

from zc.zrs.files.blob_count import BlobCount
from zc.zrs.status import registry as opened_storages
from zc.zrs.status.observer import Observer
from zc.zrs.status.schema import StorageFacts
from zc.zrs.status.sharing import serve
from zc.zrs.status.states import Role
from zc.zrs.storages.wrapper import StorageWrapper
from zc.zrs.system.address import Address


class SelfReport:
    """Reports on one storage.

    The constructor binds the address; requests are answered from `start` on.

    :param status_address: where to serve the status over HTTP, None for no server
    :param status_names: additional host names that clients may use
    :param storage_name: the name given to the storage, if any

    Raises `OSError` if the address cannot be bound, `TypeError` or `ValueError` if it is invalid.
    """

    def __init__(
        self,
        status_address: Address | None,
        status_names: Iterable[str],
        storage_name: str | None,
    ) -> None:
        self._served = serve(status_address, status_names)
        self._name = storage_name
        self._storage: Any = None
        self._blobs: BlobCount | None = None

    @property
    def address(self) -> Address | None:
        """The status address, with the port that was bound; None without a status server."""
        return None if self._served is None else self._served.address

    def start(
        self,
        wrapper: Any,
        role: Role,
        storage: Any,
        *,
        has_own_blobs: bool,
    ) -> None:
        """Start reporting on `storage`, which `wrapper` replicates.

        :param has_own_blobs: whether its blob directory is not shared with other machines
        """
        if isinstance(getattr(storage, "_file_name", None), str):
            self._storage = storage
        opened_storages.register(
            wrapper,
            role,
            storage.getName(),
            name=self._name,
            instead_of=storage if isinstance(storage, StorageWrapper) else None,
        )
        if self._served is not None:
            files = getattr(storage, "fshelper", None)
            if has_own_blobs and files is not None and IBlobStorage.providedBy(storage):
                self._blobs = BlobCount(files.base_dir)
            observer = Observer(wrapper.status, role, storage.getName(), storage=self._name)
            self._served.start(observer)

    def facts(self) -> StorageFacts:
        """Return the keys about the storage that every status has."""
        facts: StorageFacts = {}
        if self._storage is not None:
            facts["file_bytes"] = self._storage.getSize()
        if self._blobs is not None:
            last = self._blobs.last
            facts["blob_files"] = (
                None
                if last is None
                else {"time": last.time, "files": last.files, "bytes": last.bytes}
            )
        return facts

    def unregister(self, wrapper: Any) -> None:
        """Remove the storage from the registry of this process."""
        opened_storages.unregister(wrapper)

    def close(self) -> None:
        """Stop serving the status."""
        if self._blobs is not None:
            self._blobs.close()
        if self._served is not None:
            self._served.close()
