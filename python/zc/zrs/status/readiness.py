"""Whether a storage is ready to be used: the judgement behind ``/ready``.

A primary is ready while it listens. A secondary is ready when it has caught up since it was
opened and lags no more than a limit now, or when its primary, which may be one that does not say
how far it is, has said nothing for a while.
"""

from dataclasses import dataclass

from zc.zrs.status.format import short_peer
from zc.zrs.status.lag_record import QUIET_BEFORE_READY, is_settled_quiet
from zc.zrs.status.observer import Look
from zc.zrs.status.schema import PrimaryStatus, ReadinessAnswer, SecondaryStatus
from zc.zrs.status.states import meaning

DEFAULT_LIMIT = 30.0
"""Seconds that a ready secondary may lag, unless asked otherwise."""


@dataclass(frozen=True)
class Readiness:
    """The judgement."""

    reasons: list[str]
    """Why the storage is not ready, as sentences; empty if it is."""
    lag: float | None
    """The lag of a secondary in seconds, if it is known."""
    limit: float
    """The lag that was allowed, in seconds."""

    @property
    def ready(self) -> bool:
        """Whether the storage is ready."""
        return not self.reasons

    def as_dict(self) -> ReadinessAnswer:
        """Return what ``/ready`` answers."""
        return {
            "ready": self.ready,
            "reasons": self.reasons,
            "lag_seconds": self.lag,
            "limit_seconds": self.limit,
        }


def judge(look: Look, limit: float | None = None) -> Readiness:
    """Return whether the storage is ready, with a lag of up to `limit` seconds."""
    limit = DEFAULT_LIMIT if limit is None else limit
    reasons = []
    if look.primary is not None:
        reason = meaning(look.primary["state"]).reason
        reasons += [] if reason is None else [reason.format(role="primary")]
    if any(side and side.get("file_replaced") for side in (look.primary, look.status)):
        reasons.append(
            "the Data.fs is not the file that the server has open: it was removed or replaced"
        )
    if look.secondary is not None:
        reasons += _secondary(look.secondary, look, limit)
    elif look.primary is not None:
        reasons += _registration(look.primary)
    return Readiness(reasons, look.lag, limit)


def _registration(status: PrimaryStatus) -> list[str]:
    """Return why no secondary finds a primary that registers in ZooKeeper.

    A primary that was registered and has only lost its connection is ready: its
    secondaries stay with it.
    """
    zookeeper = status.get("zookeeper")
    if zookeeper is None or zookeeper["registered"]:
        return []
    why = zookeeper["why_not_registered"]
    if why is None:
        why = "no answer yet" if zookeeper["connected"] else "no connection"
    return [f"not registered in ZooKeeper at {zookeeper['path']}: {why}"]


def _secondary(status: SecondaryStatus, look: Look, limit: float) -> list[str]:
    state = status["state"]
    meant, why = meaning(state), _why(status)
    if meant.reason is not None:
        return [meant.reason.format(role="secondary") + (why if meant.shows_error else "")]
    if not look.caught_up:
        return [f"not caught up since start: {state}{why}"]
    if is_settled_quiet(state, caught_up=look.caught_up, lag=look.lag):
        return []
    if look.lag is None or look.lag > limit:
        lag = "an unknown time" if look.lag is None else f"{look.lag:.1f} s"
        return [f"behind by up to {lag}, more than {limit:g} s: {state}{why}"]
    return []


def _why(status: SecondaryStatus) -> str:
    """Return what explains the state, to be put behind it."""
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
