"""ZConfig sections: ``<primary>``, ``<secondary>`` and ``<zrs>``; see component.xml.

A ``<filestorage>`` in them, or a path, becomes a storage of the selected engine.

Contradictory options are detected when the configuration is read, not when the storage is
opened. They raise `ZConfig.ConfigurationError`, which names the section and the options.
"""

import contextlib
import errno
import importlib
import os
from collections.abc import Iterator
from typing import Any

import ZConfig
import ZODB.config

from zc.zrs.files.blobs import check_layout
from zc.zrs.files.commit_sync import COMMIT_SYNCS
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.sections import ssl as ssl_section
from zc.zrs.sections.datatypes import handshake_deadline, max_connections, networks, node_name
from zc.zrs.sections.filestorage import (
    file_storage_options,
    nested_blob_directories,
    nested_file_storages,
)
from zc.zrs.status.server import StatusAddressError
from zc.zrs.storages.engine import (
    ENGINES,
    engine_or_default,
    make_beside_blobs,
    open_file_storage,
)
from zc.zrs.storages.wrapper import wrap_or_close
from zc.zrs.system.address import Address, show_address
from zc.zrs.system.quantities import parse_duration
from zc.zrs.zookeeper.register_as import parse_register_as

__all__ = [
    "PrimarySection",
    "SecondarySection",
    "ZRSSection",
    "handshake_deadline",
    "max_connections",
    "networks",
    "node_name",
]

ssl_section.install()

CHOICES = {
    "wire-pickles": ("python2", "python3"),
    "missing-blobs": ("stop", "skip"),
    "unverified-history": ("accept", "refuse"),
    "blobs": ("all", "none"),
}

LIMITS = ("allow", "max_connections", "handshake_deadline")
"""The options that restrict connections to a primary."""


class _Section(ZODB.config.BaseConfig):  # type: ignore[misc]
    """The base class of the sections: a section with the storage that holds the data."""

    _is_secondary = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._one_of("filestorage-path", "a storage section")
        self._check_zookeeper()
        self._check()
        self._check_choices()
        self._check_engine()
        self._check_commit_sync()
        self._check_shared_blobs()
        for option in "address", "replicate-to", "replicate-from", "status-address":
            self._check_port(option)
        self._check_status_address()
        self._delays()

    def _check(self) -> None:
        """Raise `ZConfig.ConfigurationError` for contradictory options."""

    def _get(self, option: str) -> Any:
        attribute = "storage" if option == "a storage section" else option.replace("-", "_")
        value = getattr(self.config, attribute)
        return None if value == [] else value  # a multikey that is not given

    def _check_zookeeper(self) -> None:
        options = [f"replicate-{way}" for way in ("to", "from")]
        for option in "zookeeper", "replicate-from-zookeeper":
            if self._given(f"{option}-options") is not None and not self._given(option):
                raise self._error(f"has {option}-options, which requires {option}")
        needs = [o for o in ("zookeeper", "replicate-from-zookeeper") if self._given(o)]
        if needs and not any(self._in_zookeeper(option) for option in options):
            raise self._error(
                f"has {needs[0]}, which requires a path in {' or '.join(options)}"
            )
        for option in options:
            self._check_place(option)
        self._check_register_as()

    def _check_place(self, option: str) -> None:
        """Check the connection string and the path of an option."""
        if (place := self._in_zookeeper(option)) is None:
            return
        try:
            checks = importlib.import_module("zc.zk.connection_string")
        except ModuleNotFoundError:
            return  # opening the storage reports the missing package
        name = self._ensemble(option)
        try:
            checks.named(name, checks.check_connection_string)(place[0])
            checks.named(option, checks.check_path)(place[1])
        except ValueError as error:
            raise self._error(f"has an invalid {error}") from None

    def _check_register_as(self) -> None:
        text = self._given("register-as")
        if text is None:
            return
        if not self._in_zookeeper("replicate-to"):
            raise self._error(
                "has register-as, which requires a path in ZooKeeper in replicate-to"
            )
        try:
            parse_register_as(text)
        except ValueError as error:
            raise self._error(f"register-as: {error}") from None

    def _given(self, option: str) -> Any:
        return getattr(self.config, option.replace("-", "_"), None)

    def _in_zookeeper(self, option: str) -> tuple[str, str] | None:
        """Return ZooKeeper's connection string and the path if an option is a path there."""
        zookeeper = self._given(self._ensemble(option))
        value = self._given(option)
        if zookeeper is None or value is None or not isinstance(value.address, str):
            return None
        return zookeeper, value.address

    def _ensemble(self, option: str) -> str:
        """Return the name of the option with the ensemble for another option's path."""
        other = "replicate-from-zookeeper"
        is_other = option == "replicate-from" and self._given(other) is not None
        return other if is_other else "zookeeper"

    def _zookeeper_options(self, option: str) -> dict[str, Any]:
        """Return the argument with the settings of the connection to an option's ensemble."""
        options = self._given(f"{self._ensemble(option)}-options")
        return {} if options is None else {"zookeeper_options": options}

    def _one_of(self, *options: str) -> Any:
        """Return the value of whichever of these options is given."""
        given = [option for option in options if self._get(option) is not None]
        if not given:
            raise self._error(f"requires {' or '.join(options)}")
        if len(given) > 1:
            raise self._error(f"cannot have both {' and '.join(given)}")
        return self._get(given[0])

    def _needs(self, option: str, needed: str) -> None:
        if self._get(option) is not None and self._get(needed) is None:
            raise self._error(f"has {option}, which requires {needed}")

    def _check_port(self, option: str) -> None:
        value = getattr(self.config, option.replace("-", "_"), None)
        if (
            value is not None
            and not isinstance(value.address, str)
            and value.address[1] is None
        ):
            raise self._error(f"has {option} {value.address[0]}, which has no port")

    def _check_status_address(self) -> None:
        value = self._given("status-address")
        if value is not None and isinstance(value.address, str):
            raise self._error(f"has status-address {value.address}: it must be [host:]port")

    def _status_address(self) -> Address | None:
        """Return the address on which the section's outermost storage serves its status."""
        value = self._given("status-address")
        return None if value is None else _address(value)

    def _status_options(self) -> dict[str, Any]:
        """Return the arguments of the status server and the storage's name."""
        return {
            "status_address": self._status_address(),
            "status_names": (self._given("status-names") or "").split(),
            "storage_name": self._given("storage-name") or self.name or None,
        }

    def _delays(self) -> dict[str, float]:
        """Return the arguments for the options with durations."""
        delays = {}
        for option in "keep-alive-delay", "reconnect-delay":
            argument = option.replace("-", "_")
            text = getattr(self.config, argument, None)
            if text is not None:
                try:
                    delays[argument] = parse_duration(text)
                except ValueError as error:
                    raise self._error(f"has an invalid {option}: {error}") from None
        return delays

    def _check_choices(self) -> None:
        for option, choices in CHOICES.items():
            value = getattr(self.config, option.replace("-", "_"), None)
            if value not in (None, *choices):
                raise self._error(f"has {option} {value}: it must be {' or '.join(choices)}")

    def _check_engine(self) -> None:
        value = self._get("storage-engine")
        if value not in (None, *ENGINES):
            raise self._error(f"has storage-engine {value}: it must be {' or '.join(ENGINES)}")
        if value is not None and not self._has_plain_file():
            raise self._error("has storage-engine, which requires a filestorage")

    def _check_commit_sync(self) -> None:
        value = self._get("commit-sync")
        if value not in (None, *COMMIT_SYNCS):
            raise self._error(
                f"has commit-sync {value}: it must be {' or '.join(COMMIT_SYNCS)}"
            )
        if value is not None and engine_or_default(self._get("storage-engine")) != "rust":
            raise self._error("has commit-sync, which requires storage-engine rust")
        if value is not None and not self._has_plain_file():
            raise self._error("has commit-sync, which requires a filestorage")

    def _has_plain_file(self) -> bool:
        """Return whether the data is in a file that either engine can open."""
        storage = self.config.storage
        return storage is None or type(storage) is ZODB.config.FileStorage

    def _shares_blobs(self) -> bool:
        """Return whether the blob directory is shared with the primary."""
        follows = getattr(self.config, "replicate_from", None) or self._is_secondary
        return bool(follows) and self.config.blobs == "none"

    def _check_shared_blobs(self) -> None:
        for nested in nested_file_storages(self.config.storage):
            if self._shares_blobs() and nested.create and nested.blob_dir:
                raise self._error(
                    f"has blobs none around a filestorage with create, which would empty"
                    f" {nested.blob_dir}"
                )

    @property
    def _title(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<{self.config.getSectionType()}{name}>"

    def _error(self, text: str) -> ZConfig.ConfigurationError:
        return ZConfig.ConfigurationError(f"{self._title} {text}")

    @contextlib.contextmanager
    def _naming_address(
        self, option: str | None = None, address: Address | None = None
    ) -> Iterator[None]:
        """Add the section and the option to the error for an address that cannot be bound."""
        try:
            yield
        except StatusAddressError as error:
            raise error.in_section(self._title) from error
        except OSError as error:
            # Other errors of opening the storage do not concern the address.
            if address is None or repr(address) not in str(error):
                raise
            if error.errno:
                reason = os.strerror(error.errno)
            else:
                reason = str(error).removeprefix(f"{address!r}: ")
            text = (
                f"{self._title} cannot listen on {show_address(address)} ({option}): {reason}"
            )
            raise OSError(error.errno or errno.EADDRNOTAVAIL, text) from error

    def _open_storage(self) -> Any:
        engine = engine_or_default(self.config.storage_engine)
        storage = self.config.storage
        if storage is None:
            return open_file_storage(self.config.filestorage_path, engine, **self._sync())
        for directory in nested_blob_directories(storage):
            check_layout(directory)
        for nested in nested_file_storages(storage):
            if nested.blob_dir and not (nested.create or nested.read_only):
                shared = self._shares_blobs()
                make_beside_blobs(nested.path, nested.blob_dir, engine, shared=shared)
        if engine == "rust" and self._has_plain_file():
            options = {**file_storage_options(storage.config), **self._sync()}
            return open_file_storage(storage.config.path, engine, **options)
        return storage.open()

    def _sync(self) -> dict[str, Any]:
        """Return the file storage's argument for commit-sync."""
        value = self._get("commit-sync")
        return {} if value is None else {"commit_sync": value}

    def _primary(self, storage: Any, option: str, **options: Any) -> Primary:
        wrapper: Any = Primary
        listen = _address(self._given(option))
        where: tuple[Any, ...] = (listen,)
        how: dict[str, Any] = {}
        if place := self._in_zookeeper("replicate-to"):
            option, address = "address", self._given("address")
            listen = ("", 0) if address is None else _address(address)
            wrapper, where = _from_zk("Primary"), (listen, *place)
            how = self._zookeeper_options("replicate-to")
            how["register_as"] = self._given("register-as")
        with self._naming_address(option, listen):
            primary: Primary = wrap_or_close(
                storage,
                wrapper,
                *where,
                wire_pickles=self.config.wire_pickles,
                missing_blobs=self.config.missing_blobs or "stop",
                unverified_history=self.config.unverified_history or "accept",
                blobs=self.config.blobs or "all",
                ssl=self.config.ssl,
                **self._limits(),
                **options,
                **how,
            )
        return primary

    def _limits(self) -> dict[str, Any]:
        """Return the arguments that restrict connections."""
        given = {name: self._get(name) for name in LIMITS}
        limits = {name: value for name, value in given.items() if value is not None}
        if "allow" in limits:
            limits["allow"] = [network for line in limits["allow"] for network in line]
        return limits

    def _secondary(self, storage: Any, addr: Any) -> Secondary:
        wrapper: Any = Secondary
        where: tuple[Any, ...] = (_address(addr),)
        how: dict[str, Any] = {}
        if place := self._in_zookeeper("replicate-from"):
            wrapper, where = _from_zk("Secondary"), place
            how = self._zookeeper_options("replicate-from")
        with self._naming_address():
            secondary: Secondary = wrap_or_close(
                storage,
                wrapper,
                *where,
                blobs=self.config.blobs or "all",
                ssl=self.config.ssl,
                node_name=self._given("node-name"),
                **self._delays(),
                **self._status_options(),
                **how,
            )
        return secondary


class PrimarySection(_Section):
    """``<primary>``."""

    def _check(self) -> None:
        if not self._in_zookeeper("replicate-to"):
            self._one_of("address", "replicate-to")

    def open(self, database_name: str = "unnamed", databases: Any = None) -> Primary:  # noqa: ARG002
        """Open the storage."""
        option = "address" if self._given("replicate-to") is None else "replicate-to"
        return self._primary(self._open_storage(), option, **self._status_options())


class SecondarySection(_Section):
    """``<secondary>``."""

    _is_secondary = True

    def _check(self) -> None:
        self._one_of("address", "replicate-from")

    def open(self, database_name: str = "unnamed", databases: Any = None) -> Secondary:  # noqa: ARG002
        """Open the storage."""
        return self._secondary(self._open_storage(), self._one_of("address", "replicate-from"))


class ZRSSection(_Section):
    """``<zrs>``."""

    def _check(self) -> None:
        if self._given("address") and not self._in_zookeeper("replicate-to"):
            raise self._error(
                "has address, which requires a replicate-to that is a path in ZooKeeper"
            )
        if self.config.replicate_to is None and self.config.replicate_from is None:
            raise self._error("requires replicate-to or replicate-from")
        # A primary ignores keep-alive-delay, which plone.recipe.zeoserver always sets.
        for option in "reconnect-delay", "node-name":
            self._needs(option, "replicate-from")
        for option in "wire-pickles", "missing-blobs", "unverified-history", *LIMITS:
            self._needs(option.replace("_", "-"), "replicate-to")

    def open(
        self,
        database_name: str = "unnamed",  # noqa: ARG002 -- ZODB.config's signature
        databases: Any = None,  # noqa: ARG002
    ) -> Primary | Secondary:
        """Open the storage: with both addresses a secondary of a primary."""
        storage = self._open_storage()
        if self.config.replicate_to is not None:
            # In a cascade, the secondary also reports the status of its primary.
            cascade = self.config.replicate_from is not None
            options = {} if cascade else self._status_options()
            storage = self._primary(storage, "replicate-to", **options)
        if self.config.replicate_from is not None:
            storage = self._secondary(storage, self.config.replicate_from)
        opened: Primary | Secondary = storage
        return opened


def _from_zk(name: str) -> Any:
    # Kazoo is required only with ZooKeeper.
    return getattr(importlib.import_module("zc.zrs.zk"), name)


def _address(section_value: Any) -> Address:
    """Return the address for a value of ZConfig."""
    value = section_value.address
    addr: Address = value if isinstance(value, str) else (value[0] or "", value[1])
    return addr
