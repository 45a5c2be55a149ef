"""The last minutes of a storage: its status, its lag, and its events."""

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
"""Maximum number of samples, which are taken once a second."""
MAX_EVENTS = 200
MAX_PEERS_IN_HISTORY = 8


@dataclass(frozen=True)
class Sample:
    """One history sample."""

    time: float
    """Seconds since 1970."""
    lag: float | None
    """The lag of a secondary, or the longest lag of a primary's connections, in seconds."""
    transactions_per_second: float
    peers: dict[str, float | None]
    """The lags of the first connections of a primary."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a storage at one moment."""

    time: float
    """Seconds since 1970."""
    role: Role
    name: str
    """The storage's own name, usually the path of its file."""
    storage: str
    """The given name, which is the label ``storage`` of its metrics; the default is `name`."""
    status: Status
    """The status of the storage, without that of the primary that it wraps."""
    secondary: SecondaryStatus | None
    """The same status, if the storage is a secondary."""
    primary: PrimaryStatus | None
    """The status of the serving side: the primary itself, or a cascade's inner primary."""
    lag: float | None
    """A secondary's lag in seconds; None for a primary, and if it is unknown."""
    caught_up: bool
    """Whether a secondary has followed since it was opened; True for a primary."""

    @property
    def worst_lag(self) -> float | None:
        """The secondary's lag, or the longest of the primary's connections, in seconds."""
        if self.role == "secondary":
            return self.lag
        lags = [lag for lag in peer_lags(self.primary).values() if lag is not None]
        return max(lags, default=None)


class Observer:
    """Takes snapshots of a storage, and keeps a history.

    :param status: returns the storage's status
    :param role: the role of the storage
    :param name: the storage's own name
    :param clock: the time in seconds since 1970
    :param storage: the name given to the storage, if any
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
        """Return the current state of the storage."""
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
        """Record a sample, and the events since the last one."""
        status = self._status()
        with self._lock:
            snapshot = self._snapshot(status)
            peers = dict(list(peer_lags(snapshot.primary).items())[:MAX_PEERS_IN_HISTORY])
            rate = status.get("transactions_per_second", 0.0)
            self._samples.append(Sample(snapshot.time, snapshot.worst_lag, rate, peers))
            for event in _changes(self._before, snapshot):
                self._record_event(event)
            self._before = snapshot

    def _record_event(self, event: Event) -> None:
        # A repeated error stays one event, and does not displace others.
        if self._events:
            last = self._events[-1]
            if (last.kind, last.text) == (event.kind, event.text):
                event = replace(event, count=last.count + 1)
                self._events.pop()
        self._events.append(event)

    def samples(self) -> list[Sample]:
        """Return the recorded samples, the oldest first."""
        with self._lock:
            return list(self._samples)

    def events(self) -> list[Event]:
        """Return the recorded events, the latest first."""
        with self._lock:
            return list(reversed(self._events))


def _changes(before: Snapshot | None, now: Snapshot) -> Iterator[Event]:
    """Yield the events between two snapshots; `before` is None at first."""
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
