"""The keys and types of statuses. docs/status.md explains the keys.

Both drivers report the required keys. Keys that only the tokio driver counts, or that only some
storages have, are not required; a test compares both with statuses of open storages.

A status consists of texts, numbers, None, lists and dictionaries, as `json.dumps` takes them. Times
are seconds since 1970, tids are texts such as ``0x03d4dc0008888888``.
"""

from typing import Literal, TypedDict

from zc.zrs.status.states import EventKind, PeerState, PrimaryState, SecondaryState
from zc.zrs.system.address import Address

History = Literal["verified", "unverified"]
DroppedList = Literal["pending", "complete", "incomplete"]

# --- Parts of statuses ------------------------------------------------------------------


class Failure(TypedDict):
    """When and why something failed."""

    time: float
    message: str


class PeerFailure(Failure):
    """When and why a connection failed."""

    peer: str


class Traffic(TypedDict, total=False):
    """What was sent, or applied and received."""

    transactions: int
    bytes: int
    transactions_per_second: float
    bytes_per_second: float


class Errors(TypedDict, total=False):
    """How often connections failed."""

    errors: int
    errors_by_kind: dict[str, int]
    last_error: PeerFailure | None


class BlobFiles(TypedDict):
    """The last count of the blob files."""

    time: float
    files: int
    bytes: int


class StorageFacts(TypedDict, total=False):
    """What is known of some storages."""

    file_bytes: int
    blob_files: BlobFiles | None


class StorageStatus(StorageFacts):
    """What primaries and secondaries report of the storage that they wrap."""

    pack_error: Failure | None


class ZooKeeperSession(TypedDict):
    """A session with ZooKeeper."""

    servers: str
    connected: bool
    session: str | None


class ZooKeeperRegistration(ZooKeeperSession):
    """A session in which a primary registers."""

    path: str
    registered: bool
    why_not_registered: str | None


class ZooKeeperAddresses(ZooKeeperSession):
    """A session in which a secondary looks for primaries."""

    path: str
    addresses: list[list[str | int]]


# --- Primaries --------------------------------------------------------------------------


class _Peer(TypedDict):
    peer: str
    state: PeerState


class PeerStatus(_Peer, Traffic, total=False):
    """A primary's connection."""

    host: str
    name: str | None
    label: str
    since: float
    tls: bool
    tid: str | None
    lag_transactions: int | None
    lag_bytes: int | None
    lag_seconds: float
    last_sent: float | None
    last_heard: float | None
    durable_tid: str | None
    history: History | None


class _Server(TypedDict):
    state: PrimaryState
    address: Address
    tid: str
    connections: int
    file_replaced: bool
    peers: list[PeerStatus]


class ServerStatus(_Server, Traffic, Errors, total=False):
    """What a driver reports of a primary."""

    started: float
    commits: int
    connections_accepted: int
    connections_refused: dict[str, int]
    missing_blobs: int


class PlainPrimaryStatus(ServerStatus, StorageStatus):
    """The status of a primary that does not use ZooKeeper."""


class PrimaryStatus(PlainPrimaryStatus, total=False):
    """The status of a primary."""

    zookeeper: ZooKeeperRegistration


# --- Secondaries ------------------------------------------------------------------------


class _Client(TypedDict):
    state: SecondaryState
    connected: bool


class ClientStatus(_Client, Traffic, Errors, total=False):
    """What a driver reports of a secondary."""

    started: float
    peer: str | None
    since: float | None
    tls: bool | None
    tid: str | None
    primary_tid: str | None
    lag_transactions: int | None
    pulse: float | None
    primary_bytes: int | None
    connections: int
    reconnects: int
    failed_attempts: int
    blobs: int
    dropped_list: DroppedList | None
    last_received: float | None
    last_applied: float | None


class PlainSecondaryStatus(ClientStatus, StorageStatus):
    """The status of a secondary that wraps no primary and does not use ZooKeeper."""

    address: Address | list[Address]
    file_replaced: bool
    lag_seconds: float | None
    caught_up: bool


class SecondaryStatus(PlainSecondaryStatus, total=False):
    """The status of a secondary."""

    primary: PrimaryStatus
    zookeeper: ZooKeeperAddresses


Status = PrimaryStatus | SecondaryStatus

# --- Answers of status servers ----------------------------------------------------------


class Judgement(TypedDict):
    """Whether a storage is ready, and why not."""

    ready: bool
    reasons: list[str]


class ReadinessAnswer(Judgement):
    """The answer to ``/ready`` of one storage."""

    lag_seconds: float | None
    limit_seconds: float


class AllReadinessAnswer(ReadinessAnswer):
    """The answer to ``/ready`` of several storages."""

    storages: dict[str, ReadinessAnswer]


class Observed(Judgement):
    """What a status server adds to the status of a storage, besides its role."""

    name: str
    storage: str
    version: str
    time: float
    tid_time: float | None


class ServedPrimary(PrimaryStatus, Observed):
    """The answer to ``/status`` of a primary."""

    role: Literal["primary"]


class ServedSecondary(SecondaryStatus, Observed):
    """The answer to ``/status`` of a secondary."""

    role: Literal["secondary"]


ServedStatus = ServedPrimary | ServedSecondary


class AllStatusesAnswer(Judgement):
    """The answer to ``/status`` of several storages."""

    version: str
    time: float
    storages: dict[str, ServedStatus]


class EventAnswer(TypedDict):
    """An event in a `HistoryAnswer`."""

    time: float
    kind: EventKind
    text: str
    count: int


class HistoryAnswer(TypedDict):
    """The answer to ``/history`` of one storage."""

    status: ServedStatus
    samples: list[tuple[float, float | None, float, dict[str, float | None]]]
    """Time, lag, transactions per second, and the lags of connections by their labels."""
    events: list[EventAnswer]
