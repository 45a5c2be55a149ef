"""Parsing and formatting of trees of nodes as text, independent of ZooKeeper.

An indented line belongs to the less indented line above it::

    /lb : load balancer              a node and its type
      /pools
        address = '1.2.3.4:80'       a property: a literal of Python
        providers -> /cms/providers  a symbolic link to a node
        threads => /cms workers      a link to another node's property
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from zc.zk.errors import TreeSyntaxError
from zc.zk.node_data import LINK, PROPERTY_LINK

TYPE = "type"
INDENT = "  "

_NODE = re.compile(r"/(?P<name>[^/\s]*[^/\s:]|\.*)(?:\s*:\s+(?P<type>\S.*))?$")
_LINK = re.compile(r"(?P<name>\S+)\s*->\s*(?P<target>\S+)$")
_PROPERTY_LINK = re.compile(r"(?P<name>\S+)\s*=>\s*(?P<target>\S+(?:\s+\S+)?)$")
_PROPERTY = re.compile(r"(?P<name>[^=]*[^=\s])\s*=\s*(?P<value>\S.*)$")


@dataclass
class Node:
    """A node of a tree, with its properties, which include links, and its children."""

    properties: dict[str, Any] = field(default_factory=dict)
    children: dict[str, "Node"] = field(default_factory=dict)


def parse(text: str) -> Node:
    """Return the root of the tree that a text describes; raise `TreeSyntaxError`.

    Values are literals; nothing is evaluated.
    """
    root = Node()
    above: list[tuple[int, Node | None]] = [(-1, root)]
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        indent = len(line.expandtabs()) - len(line.expandtabs().lstrip())
        while indent <= above[-1][0]:
            above.pop()
        parent = above[-1][1]
        if parent is None:
            raise TreeSyntaxError(number, line, "a property cannot have children")
        try:
            above.append((indent, _add(parent, content)))
        except ValueError as error:
            raise TreeSyntaxError(number, line, str(error)) from None
    return root


def _add(parent: Node, line: str) -> Node | None:
    """Add a line to its node; return the node that the line begins, if any."""
    if line.startswith("/"):
        return _add_child(parent, line)
    if match := _LINK.match(line):
        name, value = match["name"] + LINK, match["target"]
    elif match := _PROPERTY_LINK.match(line):
        name, value = match["name"] + PROPERTY_LINK, " ".join(match["target"].split())
    elif match := _PROPERTY.match(line):
        name, value = match["name"], _literal(match["value"])
    else:
        raise ValueError("neither a node, a property nor a link")
    if name in parent.properties:
        raise ValueError(f"{name} is given twice")
    parent.properties[name] = value
    return None


def _add_child(parent: Node, line: str) -> Node:
    match = _NODE.match(line)
    if match is None or match["name"] in {"", ".", ".."}:
        raise ValueError("not the name of a node")
    if match["name"] in parent.children:
        raise ValueError(f"/{match['name']} is given twice")
    child = parent.children[match["name"]] = Node()
    if match["type"]:
        child.properties[TYPE] = match["type"]
    return child


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("not a Python literal") from None


def format_line(name: str, properties: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the lines of a node without its children; a nameless node has only properties."""
    indent = INDENT * depth
    rest = dict(properties)
    if name:
        type_ = rest.get(TYPE)
        if isinstance(type_, str) and re.fullmatch(r"\S(.*\S)?", type_):
            del rest[TYPE]
            yield f"{indent}/{name} : {type_}"
        else:
            yield f"{indent}/{name}"
        indent += INDENT
    for key in sorted(rest):
        if key.endswith((LINK, PROPERTY_LINK)):
            yield f"{indent}{key} {rest[key]}"
        else:
            yield f"{indent}{key} = {rest[key]!r}"
