"""The last minutes of a storage: its status, how far it lags, and what has happened."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

from zc.zrs.status import events
from zc.zrs.status.events import Event
from zc.zrs.status.format import peer_labels
from zc.zrs.status.lag_record import LagRecord
from zc.zrs.status.schema import PrimaryStatus, SecondaryStatus, Status
from zc.zrs.status.states import Role

HISTORY_SECONDS = 900
"""How many samples are kept; there is one a second."""
MAX_EVENTS = 200
MAX_PEERS_IN_HISTORY = 8


@dataclass(frozen=True)
class Sample:
    """What a moment is remembered by."""

    time: float
    """Seconds since 1970."""
    lag: float | None
    """Seconds: of a secondary its own lag, of a primary the worst of its peers'."""
    transactions_per_second: float
    peers: dict[str, float | None]
    """The lags of a primary's connections, of the first few."""


@dataclass(frozen=True)
class Snapshot:
    """A storage at one moment."""

    time: float
    """Seconds since 1970."""
    role: Role
    name: str
    """What the storage itself says is its name, usually the path of its file."""
    storage: str
    """The name that it was given, which is the label ``storage`` of its metrics; else the same."""
    status: Status
    """Its own status, without that of the primary that it wraps."""
    secondary: SecondaryStatus | None
    """The same if it is a secondary."""
    primary: PrimaryStatus | None
    """The status of what serves others: of a primary itself, of a cascade its primary."""
    lag: float | None
    """A secondary's lag in seconds; None for a primary, and where nothing is known."""
    caught_up: bool
    """Whether a secondary was ever seen to follow since it was opened; True for a primary."""

    @property
    def worst_lag(self) -> float | None:
        """The secondary's own lag, or the worst of the primary's connections, in seconds."""
        if self.role == "secondary":
            return self.lag
        lags = [lag for lag in peer_lags(self.primary).values() if lag is not None]
        return max(lags, default=None)


class Observer:
    """Looks at a storage, and remembers.

    :param status: returns the storage's status
    :param role: what the storage is
    :param name: what the storage itself says is its name
    :param clock: the time in seconds since 1970
    :param storage: the name that the storage was given, if any
    """

    def __init__(
        self,
        status: Callable[[], Status],
        role: Role,
        name: str,
        clock: Callable[[], float] = time.time,
        *,
        storage: str | None = None,
    ) -> None:
        self.role: Role = role
        self.name = name
        self.storage = storage or name
        self._status = status
        self._clock = clock
        self._lock = threading.Lock()
        self._record = LagRecord()
        self._before: Snapshot | None = None
        self._samples: deque[Sample] = deque(maxlen=HISTORY_SECONDS)
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)

    def snapshot(self) -> Snapshot:
        """Return what the storage is at."""
        status = self._status()
        with self._lock:
            return self._snapshot(status)

    def _snapshot(self, status: Status) -> Snapshot:
        now = self._clock()
        if self.role == "primary":
            primary = cast("PrimaryStatus", status)
            return Snapshot(
                now,
                "primary",
                self.name,
                self.storage,
                primary,
                None,
                primary,
                None,
                caught_up=True,
            )
        own = cast("SecondaryStatus", status.copy())
        serving = own.pop("primary", None)
        lag = self._record.lag(own, now)
        return Snapshot(
            now,
            "secondary",
            self.name,
            self.storage,
            own,
            own,
            serving,
            lag,
            caught_up=self._record.caught_up,
        )

    def sample(self) -> None:
        """Remember this moment, and what has happened since the last."""
        status = self._status()
        with self._lock:
            snapshot = self._snapshot(status)
            peers = dict(list(peer_lags(snapshot.primary).items())[:MAX_PEERS_IN_HISTORY])
            rate = status.get("transactions_per_second", 0.0)
            self._samples.append(Sample(snapshot.time, snapshot.worst_lag, rate, peers))
            for event in _changes(self._before, snapshot):
                self._remember(event)
            self._before = snapshot

    def _remember(self, event: Event) -> None:
        # What goes wrong again and again is one line, and pushes nothing out.
        if self._events:
            last = self._events[-1]
            if (last.kind, last.text) == (event.kind, event.text):
                event = replace(event, count=last.count + 1)
                self._events.pop()
        self._events.append(event)

    def samples(self) -> list[Sample]:
        """Return what is remembered, the oldest first."""
        with self._lock:
            return list(self._samples)

    def events(self) -> list[Event]:
        """Return what has happened, the last first."""
        with self._lock:
            return list(reversed(self._events))


def _changes(before: Snapshot | None, now: Snapshot) -> Iterator[Event]:
    """Yield what happened to a storage since the snapshot `before`, None at first."""
    if now.secondary is not None:
        was = None if before is None else before.secondary
        yield from events.of_secondary(was, now.secondary, now.time)
    if now.primary is not None:
        served = None if before is None else before.primary
        yield from events.of_primary(served, now.primary, now.time)


def peer_lags(primary: PrimaryStatus | None) -> dict[str, float | None]:
    """Return the lags, in seconds, of a primary's connections by their labels."""
    peers = [] if primary is None else primary["peers"]
    lags = [peer.get("lag_seconds") for peer in peers]
    return dict(zip(peer_labels(peers), lags, strict=True))
