"""Import and export of trees as text, and deletion of whole trees."""

import posixpath
from collections.abc import Iterator
from typing import Any

import kazoo.exceptions

from zc.zk.errors import MalformedProperties
from zc.zk.node_data import decode, encode
from zc.zk.tree import INDENT, Node, format_line, parse

DELETE_TRIES = 20
"""Maximum attempts to delete a node while servers register below it again."""


def import_tree(  # noqa: PLR0913 -- options are keywords
    client: Any, text: str, path: str, *, trim: bool, acl: Any, dry_run: bool
) -> list[str]:
    """Create the nodes of a text; return what was done, or would be, line by line."""
    root = parse(text)
    done = _Done(dry_run=dry_run)
    _import_node(client, root, path, acl, done, has_text=bool(root.properties))
    for name, child in root.children.items():
        _import_below(client, child, posixpath.join(path, name), acl, done)
    if trim:
        # Not at the top: siblings of the trees in the text may belong to other applications.
        for name, child in root.children.items():
            _trim(client, child, posixpath.join(path, name), done)
    return done.lines


class _Done:
    """The lines that report what is done."""

    def __init__(self, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.lines: list[str] = []

    def __call__(self, line: str) -> bool:
        """Add a line; return whether to carry it out."""
        self.lines.append(("would " if self.dry_run else "") + line)
        return not self.dry_run


def _import_below(client: Any, node: Node, path: str, acl: Any, done: _Done) -> None:
    _import_node(client, node, path, acl, done, has_text=True)
    for name, child in node.children.items():
        _import_below(client, child, posixpath.join(path, name), acl, done)


def _import_node(  # noqa: PLR0913, PLR0917 -- their meaning is clear
    client: Any,
    node: Node,
    path: str,
    acl: Any,
    done: _Done,
    has_text: bool,  # noqa: FBT001 -- private
) -> None:
    """Create or change a node; what the text does not mention is kept."""
    data = encode(node.properties)
    try:
        present, _ = client.get(path)
    except kazoo.exceptions.NoNodeError:
        if done(f"create {path}"):
            client.create(path, data, acl=acl, makepath=True)
        return
    if has_text and decode(present, path) != node.properties and done(f"set {path}"):
        client.set(path, data)


def _trim(client: Any, node: Node, path: str, done: _Done) -> None:
    for name in _sorted_children(client, path):
        child = posixpath.join(path, name)
        if name in node.children:
            _trim(client, node.children[name], child, done)
        else:
            delete_tree(client, child, done, force=False)


def delete_recursive(client: Any, path: str, *, dry_run: bool, force: bool) -> list[str]:
    """Delete a tree except, without `force`, ephemeral nodes and their ancestors."""
    done = _Done(dry_run=dry_run)
    delete_tree(client, path, done, force=force)
    return done.lines


def delete_tree(client: Any, path: str, done: _Done, *, force: bool) -> bool:
    """Delete a tree; return whether the node is, or would be, deleted."""
    empty = True
    for name in _sorted_children(client, path):
        empty = delete_tree(client, posixpath.join(path, name), done, force=force) and empty
    stat = client.exists(path)
    if stat is None:
        return True
    if not force and (stat.ephemeralOwner or not empty):
        if stat.ephemeralOwner:
            done.lines.append(f"{path} is ephemeral and stays")
        return False
    if done(f"delete {path}"):
        _delete(client, path, done, force=force)
    return True


def _delete(client: Any, path: str, done: _Done, *, force: bool) -> None:
    """Delete a node whose children were deleted."""
    for remaining in reversed(range(DELETE_TRIES if force else 1)):
        try:
            client.delete(path)
        except kazoo.exceptions.NoNodeError:  # noqa: PERF203 -- there are few
            return
        except kazoo.exceptions.NotEmptyError:
            if not remaining:
                raise
            # A running server registers again immediately.
            for name in _sorted_children(client, path):
                delete_tree(client, posixpath.join(path, name), done, force=force)
        else:
            return


def export_lines(client: Any, path: str, *, ephemeral: bool, name: str | None) -> Iterator[str]:
    """Yield the lines of the text of a tree; the root is included only if a name is given."""
    shown = posixpath.basename(path) if name is None else name
    yield from _export_node(client, path, shown, 0, ephemeral=ephemeral)


def _export_node(
    client: Any, path: str, name: str, depth: int, *, ephemeral: bool
) -> Iterator[str]:
    data, stat = client.get(path)
    if stat.ephemeralOwner and not ephemeral:
        return
    try:
        yield from format_line(name, decode(data, path), depth)
    except MalformedProperties:
        yield from format_line(name, {}, depth)
        yield f"{INDENT * (depth + bool(name))}# malformed: {data!r}"
    for child in _sorted_children(client, path):
        below = posixpath.join(path, child)
        if below == "/zookeeper":
            continue  # they belong to servers
        try:
            yield from _export_node(
                client, below, child, depth + bool(name), ephemeral=ephemeral
            )
        except kazoo.exceptions.NoNodeError:
            continue  # deleted in the meantime


def _sorted_children(client: Any, path: str) -> list[str]:
    try:
        return sorted(client.get_children(path))
    except kazoo.exceptions.NoNodeError:
        return []
