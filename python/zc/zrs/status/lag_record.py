"""How far a secondary lags, by the statuses that were seen of it.

The lag is the least that is certain (docs/status.md): none while the secondary follows and lacks
nothing; otherwise no more than the time since it was last seen to do so, and no more than the
age of the last transaction that it has. A connection on which nothing has come from a primary
that may not say how far it is tells nothing for a while, and then that nothing is lacking.
"""

from zc.zrs.status.format import seconds_of
from zc.zrs.status.schema import ClientStatus
from zc.zrs.status.states import SecondaryState

PULSES_OF_GRACE = 2
"""A lag is told when the primary has said nothing for more than this many of its pulses."""

QUIET_BEFORE_READY = 30.0
"""Seconds of a connection without a word after which the primary is taken to have no more."""


class LagRecord:
    """What is remembered of the statuses. It is not thread-safe: callers hold a lock."""

    def __init__(self) -> None:
        self.caught_up = False
        """Whether the secondary was ever seen to follow and to lack nothing, or to be quiet."""
        self._last_level: float | None = None

    def lag(self, status: ClientStatus, now: float) -> float | None:
        """Return the lag in seconds by a status of the moment `now`; None if nothing is known.

        :param now: seconds since 1970
        """
        if status["state"] == "quiet":
            return self._lag_of_quiet(status, now)
        if (level := _last_level(status, now)) is not None:
            self.caught_up = True
            self._last_level = level
            if now - level <= PULSES_OF_GRACE * (status.get("pulse") or 0.0):
                return 0.0
        since = [seconds_of(status.get("tid")), self._last_level]
        # A transaction from the future, by our clock, tells nothing of the present.
        known = [moment for moment in since if moment is not None and moment <= now]
        return now - max(known) if known else None

    def _lag_of_quiet(self, status: ClientStatus, now: float) -> float | None:
        # A copy without transactions is no sign of a primary that has none.
        has_some = seconds_of(status.get("tid")) is not None
        since = status["since"]
        if has_some and since is not None and now - since >= QUIET_BEFORE_READY:
            self.caught_up = True
            self._last_level = now
            return None
        return None if self._last_level is None else now - self._last_level


def quiet_means_caught_up(state: SecondaryState, *, caught_up: bool, lag: float | None) -> bool:
    """Tell whether a quiet secondary is taken to lack nothing, by its `LagRecord`."""
    return state == "quiet" and caught_up and lag is None


def _last_level(status: ClientStatus, now: float) -> float | None:
    """Return when a secondary was last known to lack nothing, if it follows and lacks nothing."""
    if status["state"] != "following":
        return None
    if status.get("primary_tid") is not None and status.get("lag_transactions") != 0:
        return None
    if status.get("pulse") is None:
        return now  # a guess, beside primaries that do not say how far they are
    spoke = max(status["since"] or 0.0, status["last_received"] or 0.0)
    return min(now, spoke)
