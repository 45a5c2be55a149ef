"""Services that register in ZooKeeper and are found there, and trees that describe them.

`ZooKeeper` is a session. It registers servers, and follows the children and properties of
nodes as they change. It is independent of ZODB.
"""

from zc.zk.address import format_addr, parse_addr
from zc.zk.errors import (
    BadPropertyLink,
    CancelWatch,
    FailedConnect,
    Forked,
    LinkLoop,
    MalformedProperties,
    NoAnswer,
    NoChroot,
    TreeSyntaxError,
)
from zc.zk.live import Children, Properties
from zc.zk.registration import Registration
from zc.zk.zookeeper import DEFAULT_CONNECTION, ZooKeeper

DISTRIBUTION = "zrs"
"""Which distribution this package is part of; the package of the distribution zc.zk lacks it."""

__all__ = [
    "DEFAULT_CONNECTION",
    "DISTRIBUTION",
    "BadPropertyLink",
    "CancelWatch",
    "Children",
    "FailedConnect",
    "Forked",
    "LinkLoop",
    "MalformedProperties",
    "NoAnswer",
    "NoChroot",
    "Properties",
    "Registration",
    "TreeSyntaxError",
    "ZooKeeper",
    "format_addr",
    "parse_addr",
]
