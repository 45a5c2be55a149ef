"""The answers of a status server, for one storage or several."""

import importlib.metadata
import time
from typing import cast

from zc.zrs.status.format import seconds_of
from zc.zrs.status.observer import Observer, Snapshot
from zc.zrs.status.readiness import DEFAULT_LIMIT, judge
from zc.zrs.status.schema import (
    AllReadinessAnswer,
    AllStatusesAnswer,
    HistoryAnswer,
    Observed,
    ServedStatus,
)

VERSION = importlib.metadata.version("zrs")


def served_status(snapshot: Snapshot) -> ServedStatus:
    """Return the answer to ``/status``: the storage's status and the observer's additions."""
    status = snapshot.status.copy()
    if snapshot.secondary is not None:
        status = snapshot.secondary.copy()
        status["lag_seconds"], status["caught_up"] = snapshot.lag, snapshot.caught_up
        if snapshot.primary is not None:
            status["primary"] = snapshot.primary
    readiness = judge(snapshot)
    observed: Observed = {
        "name": snapshot.name,
        "storage": snapshot.storage,
        "version": VERSION,
        "time": snapshot.time,
        "tid_time": seconds_of(status.get("tid")),
        "ready": readiness.ready,
        "reasons": readiness.reasons,
    }
    return cast("ServedStatus", {"role": snapshot.role, **observed, **status})


def all_statuses(snapshots: list[Snapshot], opening: int) -> AllStatusesAnswer:
    """Return the answer to ``/status`` for several storages."""
    ready = all_ready(snapshots, opening, None)
    return {
        "version": VERSION,
        "time": time.time(),
        "ready": ready["ready"],
        "reasons": ready["reasons"],
        "storages": {snapshot.storage: served_status(snapshot) for snapshot in snapshots},
    }


def all_ready(
    snapshots: list[Snapshot], opening: int, limit: float | None
) -> AllReadinessAnswer:
    """Return the answer to ``/ready`` for several storages: whether all are ready.

    The lag is the longest known one.
    """
    judged = {snapshot.storage: judge(snapshot, limit) for snapshot in snapshots}
    reasons = [f"{name}: {reason}" for name, one in judged.items() for reason in one.reasons]
    if opening:
        reasons.append(f"{opening} storage{'s are' if opening > 1 else ' is'} being opened")
    lags = [one.lag for one in judged.values() if one.lag is not None]
    return {
        "ready": not reasons,
        "reasons": reasons,
        "lag_seconds": max(lags, default=None),
        "limit_seconds": DEFAULT_LIMIT if limit is None else limit,
        "storages": {name: one.as_dict() for name, one in judged.items()},
    }


def history(observer: Observer) -> HistoryAnswer:
    """Return the answer to ``/history``."""
    samples = observer.samples()
    return {
        "status": served_status(observer.snapshot()),
        "samples": [
            (round(s.time, 1), s.lag, s.transactions_per_second, s.peers) for s in samples
        ],
        "events": [
            {"time": one.time, "kind": one.kind, "text": one.text, "count": one.count}
            for one in observer.events()
        ],
    }
