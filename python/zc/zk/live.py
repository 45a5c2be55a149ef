"""Children and properties of nodes that follow their current state in ZooKeeper.

While there is no connection they keep their last state; after a reconnection they catch up. A
deleted node has no children and no properties until it is created again. Symbolic links are
followed as they currently are: when a link changes, its new target is followed.
"""

import contextlib
import logging
import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

import kazoo.exceptions

from zc.zk.errors import (
    DISCONNECTED,
    BadPropertyLink,
    CancelWatch,
    LinkLoop,
    MalformedProperties,
)
from zc.zk.links import MAX_LINKS, target_path
from zc.zk.node_data import PROPERTY_LINK, decode, encode
from zc.zk.session import Session

RETRY_DELAY = 2.0  # seconds

Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[[Any], object])
Resolve = Callable[[str, Callable[[Any], None] | None], str]
"""Returns the real path of a path; calls the function, if any, when that may have changed."""

logger = logging.getLogger(__name__)


def _weak_watch(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a function that calls a method while its object exists."""
    reference = weakref.WeakMethod(method)

    def watch(event: Any) -> None:
        if present := reference():
            present(event)

    return watch


def _forget(session: "weakref.ref[Session]", watcher: Callable[[Any], None]) -> None:
    """Remove a watcher from kazoo when its object has been deleted."""
    if present := session():
        present.forget_watcher(watcher)


class Live(Generic[Value]):
    """The current state of a node. Call it with a function to have that called at each change.

    Without such functions the node is followed as long as a reference to this object exists.

    The function is called with this object, once immediately and then after each change, in
    the order of the changes, until it raises `CancelWatch`. Other exceptions that it raises
    are logged.
    """

    def __init__(self, session: Session, path: str, resolve: Resolve, nothing: Value) -> None:
        self._session = session
        self._resolve = resolve
        self._lock = threading.RLock()
        self._functions: list[Callable[[Any], object]] = []
        self._nothing = nothing
        self._value = nothing
        self._is_known = False
        self._real_path: str | None = None
        self._logged = ""
        # One function for all reads, because kazoo compares watchers; it does not keep us
        # alive.
        self._watcher = _weak_watch(self._fired)
        weakref.finalize(self, _forget, weakref.ref(session), self._watcher).atexit = False
        self.path = path
        self.is_watched = True

    @property
    def is_known(self) -> bool:
        """Whether the node has ever been read."""
        return self._is_known

    def read_first(self) -> None:
        """Read the node while the caller waits; raise `kazoo.exceptions.NoNodeError`."""
        self._real_path = self._resolve(self.path, self._watch)
        self._set(self._read(self._real_path))

    def refresh(self) -> None:
        """Read the node again, and report a change."""
        if self._session.closed or not self._session.connected:
            return
        try:
            value = self._read_existing()
        except DISCONNECTED:
            # `refresh` is also called after a reconnection, but the connection may not have
            # been lost.
            self._session.later(self.refresh, RETRY_DELAY)
            return
        except (kazoo.exceptions.ZookeeperError, LinkLoop, MalformedProperties) as error:
            self._log_once(f"cannot read {self.path}: {error!r}")
            self._session.later(self.refresh, RETRY_DELAY)
            return
        self._set(value)

    def __call__(self, function: Function) -> Function:
        """Register a function and call it; return it. Exceptions of this call are raised."""
        self._session.check_process()
        with self._lock:
            if self._is_known:
                try:
                    with self._session.in_callback.entered():
                        function(self)
                except CancelWatch:
                    return function
            self._functions.append(function)
            self._session.keep(self)
        return function

    @abstractmethod
    def _read(self, path: str) -> Value:
        """Return the value, and set a watch that calls `_fired` when it changes."""

    @property
    def _watch(self) -> Callable[[Any], None] | None:
        return self._watcher if self.is_watched else None

    def _fired(self, event: Any) -> None:  # noqa: ARG002 -- kazoo's signature
        self._session.later(self.refresh)

    def _read_existing(self) -> Value:
        # Links may have other targets than at the last read, and a node may have become a link.
        while True:
            try:
                self._real_path = self._resolve(self.path, self._watch)
            except kazoo.exceptions.NoNodeError:
                if self._is_known:
                    return self._nothing
                raise
            with contextlib.suppress(kazoo.exceptions.NoNodeError):
                return self._read(self._real_path)

    def _set(self, value: Value) -> None:
        with self._lock:
            if self._is_known and value == self._value:
                return
            self._value = value
            self._is_known = True
            for function in list(self._functions):
                self._call(function)

    def _call(self, function: Callable[[Any], object]) -> None:
        if self._session.closed:
            return
        try:
            with self._session.in_callback.entered():
                function(self)
        except CancelWatch:
            self._functions.remove(function)
            if not self._functions:
                self._session.release(self)
        except Exception:
            logger.exception("%r: %r failed", self, function)

    def _log_once(self, text: str) -> None:
        """Log a warning unless it repeats the last one."""
        if text != self._logged:
            logger.warning("%s", text)
        self._logged = text

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.path}: {self._value!r}>"


class Children(Live[tuple[str, ...]], Sequence[str]):
    """The names of a node's children, sorted."""

    def __init__(self, session: Session, path: str, resolve: Resolve) -> None:
        super().__init__(session, path, resolve, ())

    def _read(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(self._session.nodes.get_children(path, watch=self._watch)))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._value[index]

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[str]:
        # A snapshot: changes during the iteration have no effect.
        return iter(self._value)


class Properties(Live[dict[str, Any]], Mapping[str, Any]):
    """The properties of a node; property links have the values of their targets.

    Malformed data, and links without a target, are logged with a warning and otherwise
    ignored.
    """

    def __init__(self, session: Session, path: str, resolve: Resolve) -> None:
        super().__init__(session, path, resolve, {})

    def _read(self, path: str) -> dict[str, Any]:
        data, _ = self._session.nodes.get(path, watch=self._watch)
        try:
            properties = decode(data, path)
        except MalformedProperties as error:
            self._log_once(str(error))
            return {}
        self._logged = ""
        values = {}
        for name, value in properties.items():
            if not name.endswith(PROPERTY_LINK):
                values[name] = value
                continue
            try:
                values[name.removesuffix(PROPERTY_LINK)] = self._linked(path, name, value)
            except (BadPropertyLink, LinkLoop) as error:
                self._log_once(f"{path}: {name} {value}: {error!r}")
        return values

    def _linked(self, path: str, name: str, target: Any) -> Any:
        """Return the value of the property that a link at `path` leads to."""
        followed: list[str] = []
        while True:
            link = f"{path} {name}"
            if link in followed or len(followed) == MAX_LINKS:
                raise LinkLoop(link, followed)
            followed.append(link)
            place, _, property_name = str(target).partition(" ")
            name = property_name or name.removesuffix(PROPERTY_LINK)
            path, properties = self._linked_node(target_path(place, path))
            if name in properties:
                return properties[name]
            name += PROPERTY_LINK
            if name not in properties:
                raise BadPropertyLink(f"{path} has no such property", link)
            target = properties[name]

    def _linked_node(self, path: str) -> tuple[str, dict[str, Any]]:
        try:
            real_path = self._resolve(path, self._watch)
            data, _ = self._session.nodes.get(real_path, watch=self._watch)
            return real_path, decode(data, real_path)
        except (kazoo.exceptions.NoNodeError, MalformedProperties) as error:
            if self.is_watched:  # nothing else would read it again
                self._session.later(self.refresh, RETRY_DELAY)
            raise BadPropertyLink(str(error) or f"node {path} does not exist") from None

    def __getitem__(self, name: str) -> Any:
        return self._value[name]

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def __eq__(self, other: object) -> bool:
        return dict(self) == other

    __hash__ = None  # type: ignore[assignment]

    def set(self, data: Mapping[str, Any] | None = None, /, **properties: Any) -> None:
        """Replace all properties of the node."""
        self._session.check_process()
        path = self._resolve(self.path, None)
        self._session.nodes.set(path, encode({**(data or {}), **properties}))

    def update(self, data: Mapping[str, Any] | None = None, /, **properties: Any) -> None:
        """Change some properties of the node."""
        self._session.check_process()
        path = self._resolve(self.path, None)
        while True:
            present, stat = self._session.nodes.get(path)
            changed = {**decode(present, path), **(data or {}), **properties}
            try:
                self._session.nodes.set(path, encode(changed), version=stat.version)
            except kazoo.exceptions.BadVersionError:
                continue  # another client has changed it in the meantime
            return
