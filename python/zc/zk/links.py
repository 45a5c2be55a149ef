"""Symbolic links between nodes, and links between properties.

A link named NAME at a node takes the place of a child named NAME. Its target is a path,
relative to the node that has the link unless it begins with a slash.
"""

import posixpath
from collections.abc import Callable
from typing import Any

import kazoo.exceptions

from zc.zk.errors import LinkLoop
from zc.zk.node_data import LINK

MAX_LINKS = 40

Properties = Callable[[str], dict[str, Any]]


def target_path(target: str, base: str) -> str:
    """Return the path that a link at the node `base` leads to."""
    path = posixpath.normpath(posixpath.join(base, target))
    # Two slashes at the beginning have a meaning in POSIX, but not in ZooKeeper.
    return "/" + path.lstrip("/")


def resolve(path: str, exists: Callable[[str], Any], properties: Properties) -> str:
    """Return the path without links; `exists` and `properties` take real paths.

    Raises `kazoo.exceptions.NoNodeError`, or `LinkLoop` if links form a loop.
    """
    todo = [part for part in path.split("/") if part and part != "."]
    real = "/"
    followed: list[str] = []
    while todo:
        part = todo.pop(0)
        if part == "..":
            real = posixpath.dirname(real)
            continue
        child = posixpath.join(real, part)
        if exists(child):
            real = child
            continue
        target = properties(real).get(part + LINK) if exists(real) else None
        if target is None:
            raise kazoo.exceptions.NoNodeError(path)
        if child in followed or len(followed) == MAX_LINKS:
            raise LinkLoop(path, [*followed, child])
        followed.append(child)
        todo = [part for part in target_path(target, real).split("/") if part] + todo
        real = "/"
    return real
