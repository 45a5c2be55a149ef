"""Errors for which kazoo has no exception."""

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
"""The exceptions of operations that a lost connection interrupted."""


class FailedConnect(Exception):  # noqa: N818 -- the name that users of zc.zk know
    """No ZooKeeper server answered in time, or all refused the session; the argument says which."""


class NoAnswer(FailedConnect, KazooTimeoutError):  # type: ignore[misc]  # noqa: N818 -- as above
    """No ZooKeeper server answered a call in time; it may or may not have been carried out."""


class NoChroot(kazoo.exceptions.NoNodeError):  # type: ignore[misc]
    """The path in the connection string does not exist; the argument contains both."""


class Forked(RuntimeError):  # noqa: N818 -- it says what happened
    """A session was used in a process that was forked from its own."""


class CancelWatch(Exception):  # noqa: N818 -- the name that users of zc.zk know
    """Raised by a function to receive no more changes."""


class LinkLoop(Exception):  # noqa: N818 -- the name that users of zc.zk know
    """Symbolic links or property links form a loop; the argument lists them."""


class BadPropertyLink(Exception):  # noqa: N818 -- the name that users of zc.zk know
    """The target of a property link does not exist."""


class MalformedProperties(ValueError):  # noqa: N818 -- it is about the node's data
    """The data of a node are not in the format of this package; the argument names the node."""


class TreeSyntaxError(ValueError):
    """A line in the text of a tree is invalid.

    The argument contains the number of the line, its text and the reason.
    """

    def __init__(self, number: int, line: str, reason: str) -> None:
        super().__init__(f"line {number}: {reason}: {line.strip()!r}")
        self.number = number
        self.line = line
        self.reason = reason
