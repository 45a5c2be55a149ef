"""What can go wrong that kazoo has no exception for."""

import kazoo.exceptions
from kazoo.handlers.threading import KazooTimeoutError

DISCONNECTED: tuple[type[Exception], ...] = (
    kazoo.exceptions.ConnectionLoss,
    kazoo.exceptions.SessionExpiredError,  # ConnectionClosedError is one
    kazoo.exceptions.OperationTimeoutError,
    kazoo.exceptions.SessionMovedError,
    kazoo.exceptions.ConnectionDropped,
    KazooTimeoutError,
)
"""What operations raise that a lost connection has interrupted."""


class FailedConnect(Exception):  # noqa: N818 -- the name that users of zc.zk know
    """No ZooKeeper server answered in time, or none would have us; the argument says which."""


class NoAnswer(FailedConnect, KazooTimeoutError):  # type: ignore[misc]  # noqa: N818 -- as above
    """No ZooKeeper server answered a call in time; whether it was carried out is not known."""


class NoChroot(kazoo.exceptions.NoNodeError):  # type: ignore[misc]
    """The path in the connection string is not there; the argument names both."""


class Forked(RuntimeError):  # noqa: N818 -- it says what happened
    """A session was used in a process that was forked from its own."""


class CancelWatch(Exception):  # noqa: N818 -- the name that users of zc.zk know
    """Raised by a function that wants to be told of no more changes."""


class LinkLoop(Exception):  # noqa: N818 -- the name that users of zc.zk know
    """Symbolic links or property links that lead back to themselves; the argument lists them."""


class BadPropertyLink(Exception):  # noqa: N818 -- the name that users of zc.zk know
    """A property link whose property is not there."""


class MalformedProperties(ValueError):  # noqa: N818 -- it is about the node's data
    """The data of a node are not what this package stores; the argument names the node."""


class TreeSyntaxError(ValueError):
    """A line of a tree's text that means nothing: its number, the line, and why."""

    def __init__(self, number: int, line: str, reason: str) -> None:
        super().__init__(f"line {number}: {reason}: {line.strip()!r}")
        self.number = number
        self.line = line
        self.reason = reason
