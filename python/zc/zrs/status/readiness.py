"""Whether a storage is ready to be used, for ``/ready``.

A primary is ready while it listens. A secondary is ready when it has caught up since it was
opened and its lag is within a limit, or when a primary that may not announce its position has
sent nothing for a while.
"""

from dataclasses import dataclass

from zc.zrs.status.format import short_peer
from zc.zrs.status.lag_record import QUIET_BEFORE_READY, quiet_means_caught_up
from zc.zrs.status.observer import Snapshot
from zc.zrs.status.schema import PrimaryStatus, ReadinessAnswer, SecondaryStatus
from zc.zrs.status.states import meaning

DEFAULT_LIMIT = 30.0
"""Default maximum lag of a ready secondary, in seconds."""


@dataclass(frozen=True)
class Readiness:
    """The result of the check."""

    reasons: list[str]
    """Why the storage is not ready, as sentences; empty if it is."""
    lag: float | None
    """The lag of a secondary in seconds, None if it is unknown."""
    limit: float
    """The maximum lag, in seconds."""

    @property
    def ready(self) -> bool:
        """Whether the storage is ready."""
        return not self.reasons

    def as_dict(self) -> ReadinessAnswer:
        """Return the answer to ``/ready``."""
        return {
            "ready": self.ready,
            "reasons": self.reasons,
            "lag_seconds": self.lag,
            "limit_seconds": self.limit,
        }


def judge(snapshot: Snapshot, limit: float | None = None) -> Readiness:
    """Return whether the storage is ready, with a lag of up to `limit` seconds."""
    limit = DEFAULT_LIMIT if limit is None else limit
    reasons = []
    if snapshot.primary is not None:
        reason = meaning(snapshot.primary["state"]).reason
        reasons += [] if reason is None else [reason.format(role="primary")]
    if any(side and side.get("file_replaced") for side in (snapshot.primary, snapshot.status)):
        reasons.append(
            "the Data.fs is not the file that the server has open: it was removed or replaced"
        )
    if snapshot.secondary is not None:
        reasons += _secondary(snapshot.secondary, snapshot, limit)
    elif snapshot.primary is not None:
        reasons += _registration(snapshot.primary)
    return Readiness(reasons, snapshot.lag, limit)


def _registration(status: PrimaryStatus) -> list[str]:
    """Return why secondaries cannot find a primary that registers in ZooKeeper.

    A registered primary that has only lost its connection is ready, because its secondaries
    stay connected.
    """
    zookeeper = status.get("zookeeper")
    if zookeeper is None or zookeeper["registered"]:
        return []
    why = zookeeper["why_not_registered"]
    if why is None:
        why = "no answer yet" if zookeeper["connected"] else "no connection"
    return [f"not registered in ZooKeeper at {zookeeper['path']}: {why}"]


def _secondary(status: SecondaryStatus, snapshot: Snapshot, limit: float) -> list[str]:
    state = status["state"]
    meant, why = meaning(state), _why(status)
    if meant.reason is not None:
        return [meant.reason.format(role="secondary") + (why if meant.shows_error else "")]
    if not snapshot.caught_up:
        return [f"not caught up since start: {state}{why}"]
    if quiet_means_caught_up(state, caught_up=snapshot.caught_up, lag=snapshot.lag):
        return []
    if snapshot.lag is None or snapshot.lag > limit:
        lag = "an unknown time" if snapshot.lag is None else f"{snapshot.lag:.1f} s"
        return [f"behind by up to {lag}, more than {limit:g} s: {state}{why}"]
    return []


def _why(status: SecondaryStatus) -> str:
    """Return an explanation to append to the state."""
    last, peer = status.get("last_error"), short_peer(status.get("peer") or "")
    zookeeper = status.get("zookeeper")
    if zookeeper is not None and not zookeeper["addresses"] and not status["connected"]:
        if not zookeeper["connected"]:
            return f"; no connection to ZooKeeper at {zookeeper['servers']}"
        return f"; no primary is registered in ZooKeeper at {zookeeper['path']}"
    if status["state"] == "silent":
        return f"; connected to {peer}, but no data received"
    if status["state"] == "quiet":
        return (
            f"; connected to {peer}, but no data received yet;"
            f" without data a secondary counts as ready after {QUIET_BEFORE_READY:g} s,"
            " unless the copy is empty"
        )
    if last is None or not meaning(status["state"]).shows_error:
        return ""
    return f"; last error: {short_peer(last['peer'])}: {last['message']}"
