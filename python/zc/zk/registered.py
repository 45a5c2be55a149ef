"""The servers registered at a path: conversion of node names to addresses, and logging."""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

from zc.zk.address import parse_addr

Address: TypeAlias = tuple[str, int]

# Keeps the lines that one client logs about a change together.
_LOG = threading.Lock()


class Registered:
    """The servers that are registered at a path.

    :param where: the path, as the log shows it
    :param follow: called with the addresses when they have changed
    """

    def __init__(
        self,
        where: str,
        follow: Callable[[list[Address]], object],
        logger: logging.Logger,
    ) -> None:
        self._where = where
        self._follow = follow
        self._logger = logger
        self._malformed: set[str] = set()
        self._names: list[str] | None = None
        self.addresses: list[Address] = []

    def changed(self, names: Iterable[str]) -> None:
        """Process the current names of the nodes: log them, then call `follow`."""
        good: dict[str, Address] = {}
        malformed = set()
        for name in sorted(names):
            try:
                good[name] = parse_addr(name)
            except ValueError:  # noqa: PERF203 -- there are few
                malformed.add(name)
        for name in sorted(malformed - self._malformed):
            self._logger.warning("%r at <%s> is not an address; ignored", name, self._where)
        self._malformed = malformed
        before, self._names = self._names, list(good)
        if before == self._names:
            return
        self.addresses = list(good.values())
        with _LOG:
            if not good:
                self._logger.warning("No addresses from <%s>", self._where)
            else:
                if before is not None and not before:
                    self._logger.warning("OK: Addresses from <%s>", self._where)
                self._logger.info("Addresses from <%s>: %r", self._where, self._names)
        self._follow(self.addresses)
