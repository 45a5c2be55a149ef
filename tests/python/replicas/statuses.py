"""Parts of statuses that tests expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zc.zrs.primary import Primary
    from zc.zrs.secondary import Secondary
    from zc.zrs.status.schema import PeerFailure


def last_error(replica: Primary | Secondary) -> PeerFailure:
    """Return the last error of a connection."""
    error = replica.status()["last_error"]
    assert error is not None
    return error
