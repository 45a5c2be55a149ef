"""The metrics of storages, for all collectors: names, labels and values.

A cascade has two roles, so most metrics have a `role`: ``secondary`` for what it applies,
``primary`` for what it sends. Metrics of the storage itself have none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from zc.zrs.status.describing import VERSION
from zc.zrs.status.format import peer_labels, seconds_of
from zc.zrs.status.observer import Snapshot
from zc.zrs.status.schema import (
    PeerStatus,
    PrimaryStatus,
    SecondaryStatus,
    Status,
    StorageFacts,
)
from zc.zrs.status.states import STATES, Role

HELP = {
    "zrs_build_info": "1; the label is the version of zrs.",
    "zrs_is_primary": "1 for a primary, 0 for a secondary.",
    "zrs_state": "1 for the current state, 0 for all others.",
    "zrs_commits_total": "Transactions committed at a primary since it was opened.",
    "zrs_file_bytes": "Size of the Data.fs.",
    "zrs_blobs": "Blob files in the blob directory, as of the last count.",
    "zrs_blob_bytes": "Total size of these files.",
    "zrs_blobs_counted_timestamp_seconds": "Time of the last count.",
    "zrs_lag_seconds": "Upper bound of the seconds since the oldest missing transaction was committed.",
    "zrs_lag_transactions": "Transactions that a secondary lacks, if known.",
    "zrs_lag_bytes": "Approximate bytes of the primary's file that a secondary lacks.",
    "zrs_connected_peers": "Open connections: of secondaries, or to the primary.",
    "zrs_transactions_total": "Transactions applied, or sent (counted once for each secondary).",
    "zrs_bytes_total": "Bytes received, or sent (counted once for each secondary).",
    "zrs_reconnects_total": "Connections of a secondary after its first.",
    "zrs_failed_attempts_total": "Failed attempts of a secondary to connect.",
    "zrs_connections_accepted_total": "Connections that a primary has accepted.",
    "zrs_connections_refused_total": "Connections that a primary has refused, by reason.",
    "zrs_errors_total": "Errors of connections, by kind.",
    "zrs_last_tid_timestamp_seconds": "Commit time of the last transaction, derived from its id.",
    "zrs_caught_up": "Whether a secondary has caught up since it was opened.",
    "zrs_diverged": "Whether the primary has a different history than the secondary.",
    "zrs_missing_blobs_total": "Blobs that could not be sent because their files are missing.",
    "zrs_unverified_histories": "Connected secondaries whose history could not be verified.",
    "zrs_zookeeper_connected": "Whether there is a connection to ZooKeeper.",
    "zrs_zookeeper_registered": "Whether a primary's address is registered in ZooKeeper.",
    "zrs_zookeeper_addresses": "Primaries that a secondary finds registered in ZooKeeper.",
    "zrs_file_replaced": "Whether the Data.fs is not the file that the storage has open.",
}

# Counters by kind start at 0, so that the first event is an increase.
ERROR_KINDS: dict[Role, tuple[str, ...]] = {
    "primary": ("handshake", "protocol", "tls", "fork", "stream"),
    "secondary": (
        "cannot connect",
        "network",
        "refused",
        "protocol",
        "tls",
        "fork",
        "storage",
    ),
}
REFUSALS = ("not allowed", "too many connections")

_TRAFFIC: tuple[Literal["transactions", "bytes"], ...] = ("transactions", "bytes")
_COUNTED_BY_PRIMARIES: tuple[
    Literal["commits", "connections_accepted", "missing_blobs"], ...
] = ("commits", "connections_accepted", "missing_blobs")
_LAGS: tuple[Literal["lag_seconds", "lag_transactions", "lag_bytes"], ...] = (
    "lag_seconds",
    "lag_transactions",
    "lag_bytes",
)


@dataclass(frozen=True)
class Measure:
    """One value of a metric."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["counter", "gauge"]:
        """A counter only grows while the storage is open; a gauge can do both."""
        return "counter" if self.name.endswith("_total") else "gauge"

    @property
    def help(self) -> str:
        """The meaning of the metric."""
        return HELP[self.name]


BUILD = Measure("zrs_build_info", 1.0, {"version": VERSION})
"""The metric of the process."""


def measures(snapshot: Snapshot) -> Iterator[Measure]:
    """Yield the values for a snapshot of a storage."""
    yield Measure("zrs_is_primary", float(snapshot.role == "primary"))
    yield from _storage(snapshot.status)
    if snapshot.secondary is not None:
        yield from _secondary(snapshot.secondary, snapshot)
    if snapshot.primary is not None:
        yield from _primary(snapshot.primary)


def _storage(status: StorageFacts) -> Iterator[Measure]:
    size = status.get("file_bytes")
    if size is not None:
        yield Measure("zrs_file_bytes", size)
    counted = status.get("blob_files")
    if counted is not None:
        yield Measure("zrs_blobs", counted["files"])
        yield Measure("zrs_blob_bytes", counted["bytes"])
        yield Measure("zrs_blobs_counted_timestamp_seconds", counted["time"])


def _secondary(status: SecondaryStatus, snapshot: Snapshot) -> Iterator[Measure]:
    labels = {"role": "secondary"}
    if snapshot.lag is not None:
        yield Measure("zrs_lag_seconds", snapshot.lag, labels)
    lacks = status.get("lag_transactions")
    if lacks is None and snapshot.lag == 0:
        # The number is unknown while the secondary lags.
        lacks = 0
    if lacks is not None:
        yield Measure("zrs_lag_transactions", lacks, labels)
    yield Measure("zrs_caught_up", float(snapshot.caught_up), labels)
    yield Measure("zrs_diverged", float(status["state"] == "diverged"), labels)
    yield Measure("zrs_connected_peers", float(status["connected"]), labels)
    yield from _common(status, "secondary", labels)
    if "reconnects" in status:
        yield Measure("zrs_reconnects_total", status["reconnects"], labels)
    if "failed_attempts" in status:
        yield Measure("zrs_failed_attempts_total", status["failed_attempts"], labels)
    zookeeper = status.get("zookeeper")
    if zookeeper is not None:
        yield Measure("zrs_zookeeper_connected", float(zookeeper["connected"]), labels)
        yield Measure("zrs_zookeeper_addresses", len(zookeeper["addresses"]), labels)


def _primary(status: PrimaryStatus) -> Iterator[Measure]:
    labels = {"role": "primary"}
    yield Measure("zrs_connected_peers", status["connections"], labels)
    yield from _common(status, "primary", labels)
    for key in _COUNTED_BY_PRIMARIES:
        if key in status:
            yield Measure(f"zrs_{key}_total", status[key], labels)
    refused = status.get("connections_refused")
    if refused is not None:
        counts = dict.fromkeys(REFUSALS, 0) | refused
        yield from (
            Measure("zrs_connections_refused_total", count, labels | {"reason": reason})
            for reason, count in counts.items()
        )
    zookeeper = status.get("zookeeper")
    if zookeeper is not None:
        yield Measure("zrs_zookeeper_connected", float(zookeeper["connected"]), labels)
        yield Measure("zrs_zookeeper_registered", float(zookeeper["registered"]), labels)
    peers = status["peers"]
    if all("history" in peer for peer in peers):
        unverified = sum(peer["history"] == "unverified" for peer in peers)
        yield Measure("zrs_unverified_histories", unverified, labels)
    for label, peer in zip(peer_labels(peers), peers, strict=True):
        yield from _peer(peer, labels | {"peer": label})


def _peer(peer: PeerStatus, labels: dict[str, str]) -> Iterator[Measure]:
    for key in _LAGS:
        lag = peer.get(key)
        if lag is not None:
            yield Measure(f"zrs_{key}", lag, labels)
    if (committed := seconds_of(peer.get("tid"))) is not None:
        yield Measure("zrs_last_tid_timestamp_seconds", committed, labels)


def _common(status: Status, role: Role, labels: dict[str, str]) -> Iterator[Measure]:
    # With a reactor, there are additional states.
    for state in dict.fromkeys([*STATES[role], status["state"]]):
        in_it = float(state == status["state"])
        yield Measure("zrs_state", in_it, labels | {"state": state})
    for key in _TRAFFIC:
        if key in status:
            yield Measure(f"zrs_{key}_total", status[key], labels)
    yield Measure("zrs_file_replaced", float(status["file_replaced"]), labels)
    counted = status.get("errors_by_kind")
    if counted is not None:
        kinds = dict.fromkeys(ERROR_KINDS[role], 0) | counted
        yield from (
            Measure("zrs_errors_total", count, labels | {"kind": kind})
            for kind, count in kinds.items()
        )
    if (committed := seconds_of(status.get("tid"))) is not None:
        yield Measure("zrs_last_tid_timestamp_seconds", committed, labels)
