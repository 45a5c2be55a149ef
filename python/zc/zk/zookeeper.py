"""`ZooKeeper`, the public session."""

import posixpath
import sys
from collections.abc import Callable, Mapping
from typing import Any

from zc.zk import links, transfer
from zc.zk.connection_string import check_path
from zc.zk.live import Children, Properties
from zc.zk.node_data import LINK, decode, encode
from zc.zk.nodes import CALL_TIMEOUT
from zc.zk.public_host import registered_host
from zc.zk.registration import Registration
from zc.zk.session import Session

DEFAULT_CONNECTION = "127.0.0.1:2181"
CONNECT_TIMEOUT = 10.0  # seconds


class ZooKeeper(Session):
    """A session with ZooKeeper.

    :param connection_string: the servers, ``HOST:PORT,HOST:PORT``, optionally followed by a
        path to which all other paths are relative
    :param session_timeout: seconds without a connection after which servers end the session
    :param wait: wait for a connection without a limit, instead of raising `FailedConnect`
        after ten seconds
    :param connect: False to return immediately and connect in the background
    :param call_timeout: seconds after which an unanswered call raises `NoAnswer`, which is a
        `FailedConnect`; the default is 30
    :param kazoo_options: further arguments of `kazoo.client.KazooClient`: ``use_ssl``, ``ca``,
        ``certfile``, ``keyfile``, ``sasl_options``, ``auth_data``, ``default_acl``, ...; with
        TLS, unlike in kazoo, ``check_hostname`` is true by default, and only ``ca`` is trusted
        if it is given

    Paths in its methods may contain symbolic links. Exceptions of kazoo are passed on.
    """

    def __init__(
        self,
        connection_string: str = DEFAULT_CONNECTION,
        session_timeout: float | None = None,
        wait: bool = False,  # noqa: FBT001, FBT002 -- zc.zk's signature
        *,
        connect: bool = True,
        call_timeout: float = CALL_TIMEOUT,
        **kazoo_options: Any,
    ) -> None:
        super().__init__(connection_string, session_timeout, call_timeout, **kazoo_options)
        if connect:
            try:
                self.wait_connected(None if wait else CONNECT_TIMEOUT)
            except BaseException:
                self.close()
                raise

    def children(self, path: str, *, wait: bool = True) -> Children:
        """Follow the names of a node's children.

        Without `wait` nothing is read before this returns: a connection is not required yet,
        and functions are first called when there is one.
        """
        children = Children(self, check_path(path), self.resolve)
        self._follow(children, wait=wait, watch=True)
        return children

    def properties(self, path: str, watch: bool = True) -> Properties:  # noqa: FBT001, FBT002
        """Follow a node's properties; without `watch` they keep their current values."""
        properties = Properties(self, check_path(path), self.resolve)
        self._follow(properties, wait=True, watch=watch)
        return properties

    def _follow(self, live: Children | Properties, *, wait: bool, watch: bool) -> None:
        self.check_process()
        live.is_watched = watch
        if wait:
            live.read_first()
        if watch:
            self.follow(live)
            if not live.is_known:
                self.later(live.refresh)

    def get_children(self, path: str) -> list[str]:
        """Return the names of a node's children, sorted."""
        return sorted(self.nodes.get_children(self.resolve(path)))

    def get_properties(self, path: str) -> dict[str, Any]:
        """Return a node's properties as stored, with links unresolved.

        Raises `MalformedProperties` for data in another format.
        """
        path = self.resolve(path)
        return decode(self.nodes.get(path)[0], path)

    def register_server(
        self,
        path: str,
        address: tuple[str, int] | str,
        acl: Any = None,
        **properties: Any,
    ) -> Registration:
        """Register a server's address below a path, with properties and the process id.

        An empty host name, or ``0.0.0.0``, becomes the machine's fully qualified name; a
        warning is logged if other machines cannot use that name. Text without a colon is used
        as the name of the node. The node is kept until this session is closed, through lost
        connections and lost sessions. Unless `acl`, or the session's ``default_acl``, is
        given, others can only read the node.
        """
        self.check_process()
        registration = self.registration(path, address, properties, acl)
        registration.register()
        return registration

    def registration(
        self,
        path: str,
        address: tuple[str, int] | str,
        properties: Mapping[str, Any],
        acl: Any = None,
    ) -> Registration:
        """Return a registration without creating its node; see its methods."""
        check_path(path)
        if isinstance(address, str):
            host, colon, port = address.rpartition(":")
            if colon:
                address = f"{registered_host(host)}:{port}"
        else:
            address = registered_host(address[0]), address[1]
        return Registration(self, path, address, properties, acl, self.resolve)

    def resolve(self, path: str, watch: Callable[[Any], None] | None = None) -> str:
        """Return the path without symbolic links.

        :param watch: called with an event of kazoo's when the result may have changed

        Raises `kazoo.exceptions.NoNodeError`, which is a `NoChroot` if the path in the
        connection string does not exist, or `LinkLoop`.
        """
        self.check_process()
        is_plain = not {".", ".."} & set(path.split("/"))
        if is_plain and self.nodes.exists(path, watch=watch):
            return posixpath.normpath(path)
        self.check_chroot()

        def exists(real_path: str) -> Any:
            return self.nodes.exists(real_path, watch=watch)

        def properties(real_path: str) -> dict[str, Any]:
            return decode(self.nodes.get(real_path, watch=watch)[0], real_path)

        return links.resolve(path, exists, properties)

    def ln(self, target: str, path: str) -> None:
        """Create a symbolic link at `path`, or below it if it ends with a slash."""
        parent, name = posixpath.split(path)
        self.properties(parent or "/", watch=False).update(
            {(name or posixpath.basename(target)) + LINK: target}
        )

    def is_ephemeral(self, path: str) -> bool:
        """Return whether a node is deleted when the session that created it ends."""
        return bool(self.nodes.get(self.resolve(path))[1].ephemeralOwner)

    def create_recursive(
        self, path: str, data: Mapping[str, Any] | bytes = b"", acl: Any = None
    ) -> None:
        """Create a node, and its ancestors if they do not exist."""
        self.check_process()
        content = data if isinstance(data, bytes) else encode(data)
        self.nodes.create(path, content, acl=acl, makepath=True)

    def delete_recursive(
        self,
        path: str,
        dry_run: bool = False,  # noqa: FBT001, FBT002 -- zc.zk's signature
        force: bool = False,  # noqa: FBT001, FBT002
    ) -> list[str]:
        """Delete a node and its descendants; return what was done, line by line.

        Without `force`, ephemeral nodes and their ancestors are kept.
        """
        return transfer.delete_recursive(
            self.nodes, self.resolve(path), dry_run=dry_run, force=force
        )

    def import_tree(
        self,
        text: str,
        path: str = "/",
        trim: bool = False,  # noqa: FBT001, FBT002 -- zc.zk's signature
        acl: Any = None,
        dry_run: bool = False,  # noqa: FBT001, FBT002
    ) -> list[str]:
        """Create the nodes of a tree that is given as text; see `zc.zk.tree`.

        With `trim`, nodes below the text's top-level nodes that are not in the text are
        deleted, except ephemeral nodes and their ancestors. Other children of `path` are kept.
        Returns what was done, line by line. Raises `TreeSyntaxError` before doing anything.
        """
        self.check_process()
        return transfer.import_tree(self.nodes, text, path, trim=trim, acl=acl, dry_run=dry_run)

    def export_tree(
        self,
        path: str = "/",
        ephemeral: bool = False,  # noqa: FBT001, FBT002 -- zc.zk's signature
        name: str | None = None,
    ) -> str:
        """Return a tree as text, optionally with a different name for its top node.

        Data that are not properties are exported as comments.
        """
        lines = transfer.export_lines(
            self.nodes, self.resolve(path), ephemeral=ephemeral, name=name
        )
        return "".join(f"{line}\n" for line in lines)

    def print_tree(self, path: str = "/") -> None:
        """Print a tree, with its ephemeral nodes."""
        sys.stdout.write(self.export_tree(path, ephemeral=True))
