"""Operations on nodes with a timeout: each raises an exception if no server answers in time.

Kazoo's own calls wait without a limit for a connection.
"""

from collections.abc import Callable
from typing import Any

from kazoo.handlers.threading import KazooTimeoutError

from zc.zk.connection_string import check_characters
from zc.zk.errors import NoAnswer

CALL_TIMEOUT = 30.0
"""Default timeout of a call, in seconds."""


class Nodes:
    """The nodes of a session, with methods of `kazoo.client.KazooClient`.

    Each raises `ValueError` for a path with characters that ZooKeeper refuses.

    An operation that raised `NoAnswer` may still be executed after the reconnection.

    :param client: returns the session's current client
    :param timeout: seconds after which a call raises
    """

    def __init__(self, client: Callable[[], Any], where: str, timeout: float) -> None:
        self._client = client
        self._where = where
        self._timeout = timeout

    def exists(self, path: str, watch: Callable[[Any], None] | None = None) -> Any:
        """Return the node's stat, None if the node does not exist."""
        return self._answer(self._client().exists_async(check_characters(path), watch))

    def get(self, path: str, watch: Callable[[Any], None] | None = None) -> Any:
        """Return the node's data and its stat."""
        return self._answer(self._client().get_async(check_characters(path), watch))

    def get_children(self, path: str, watch: Callable[[Any], None] | None = None) -> Any:
        """Return the names of the node's children."""
        return self._answer(self._client().get_children_async(check_characters(path), watch))

    def create(self, path: str, value: bytes, **options: Any) -> Any:
        """Create a node."""
        return self._answer(
            self._client().create_async(check_characters(path), value, **options)
        )

    def set(self, path: str, value: bytes, version: int = -1) -> Any:
        """Replace the node's data."""
        return self._answer(self._client().set_async(check_characters(path), value, version))

    def delete(self, path: str, version: int = -1) -> Any:
        """Delete a node without children."""
        return self._answer(self._client().delete_async(check_characters(path), version))

    def replace(self, path: str, version: int, value: bytes, **options: Any) -> Any:
        """Delete a node and create it again in one transaction; return the results of both."""
        transaction = self._client().transaction()
        transaction.delete(check_characters(path), version=version)
        transaction.create(path, value, **options)
        return self._answer(transaction.commit_async())

    def _answer(self, result: Any) -> Any:
        try:
            return result.get(timeout=self._timeout)
        except KazooTimeoutError:
            raise NoAnswer(f"{self._where}: no answer in {self._timeout} s") from None
