"""The lag of a secondary, computed from its statuses.

The lag (docs/status.md) is zero while the secondary follows and lacks nothing. Otherwise it is
at most the time since it was last in that state, and at most the age of its last transaction.
If a primary that may not announce its position has sent nothing on a connection, the lag is
unknown at first; after a while, the secondary counts as complete.
"""

from zc.zrs.status.format import seconds_of
from zc.zrs.status.schema import ClientStatus
from zc.zrs.status.states import SecondaryState

MISSED_HEARTBEATS = 2
"""Heartbeats that a primary may miss before a lag is reported."""

QUIET_BEFORE_READY = 30.0
"""Seconds without data on a connection until the secondary counts as complete."""


class LagRecord:
    """The state kept between statuses. It is not thread-safe: callers hold a lock."""

    def __init__(self) -> None:
        self.caught_up = False
        """Whether a status has shown that the secondary lacked nothing, or was quiet."""
        self._last_level: float | None = None

    def lag(self, status: ClientStatus, now: float) -> float | None:
        """Return the lag in seconds for a status at the time `now`; None if it is unknown.

        :param now: seconds since 1970
        """
        if status["state"] == "quiet":
            return self._lag_of_quiet(status, now)
        if (level := _last_level(status, now)) is not None:
            self.caught_up = True
            self._last_level = level
            if now - level <= MISSED_HEARTBEATS * (status.get("pulse") or 0.0):
                return 0.0
        since = [seconds_of(status.get("tid")), self._last_level]
        # A transaction from the future, by this machine's clock, does not limit the lag.
        known = [moment for moment in since if moment is not None and moment <= now]
        return now - max(known) if known else None

    def _lag_of_quiet(self, status: ClientStatus, now: float) -> float | None:
        # An empty copy does not show that the primary is empty.
        has_some = seconds_of(status.get("tid")) is not None
        since = status["since"]
        if has_some and since is not None and now - since >= QUIET_BEFORE_READY:
            self.caught_up = True
            self._last_level = now
            return None
        return None if self._last_level is None else now - self._last_level


def quiet_means_caught_up(state: SecondaryState, *, caught_up: bool, lag: float | None) -> bool:
    """Return whether a quiet secondary counts as complete, according to its `LagRecord`."""
    return state == "quiet" and caught_up and lag is None


def _last_level(status: ClientStatus, now: float) -> float | None:
    """Return when a secondary last lacked nothing, None if it lacks something."""
    if status["state"] != "following":
        return None
    if status.get("primary_tid") is not None and status.get("lag_transactions") != 0:
        return None
    if status.get("pulse") is None:
        return now  # a guess if the primary does not announce its position
    spoke = max(status["since"] or 0.0, status["last_received"] or 0.0)
    return min(now, spoke)
