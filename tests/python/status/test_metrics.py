"""Values and labels of metrics: peers, commits, files, blobs, states."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import ZConfig
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import StorageTransactionError

from replicas.opening import LOOPBACK
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from sections.test_config import load
from status.test_commands import zrs
from status.test_server import asked, metric, metrics
from zc.zrs.files import blob_count
from zc.zrs.files.blob_count import BlobCount
from zc.zrs.filestorage import FileStorage
from zc.zrs.primary import Primary
from zc.zrs.secondary import Secondary
from zc.zrs.status.format import peer_labels, peer_names
from zc.zrs.status.states import STATES
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener
    from zc.zrs.status.schema import PeerStatus
    from zc.zrs.status.states import Role


def copies(opener: Opener, primary: Primary, *names: str | None) -> list[Secondary]:
    """Open a secondary for each name, and wait until they have caught up."""
    found = [
        opener.secondary(primary, str(opener.directory / f"copy{n}.fs"), node_name=name)
        for n, name in enumerate(names)
    ]
    for secondary in found:
        wait_caught_up(primary, secondary)
    return found


def peers(storage: Any) -> set[str]:
    """Return the values of the label ``peer``."""
    labels = [dict(labels).get("peer") for _, labels in metrics(storage)]
    return {label for label in labels if label}


@pytest.mark.parametrize("secondaries", [0, 2])
def test_commits_are_counted_once(opener: Opener, secondaries: int) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    for n in range(3):
        commit(primary, {n: b"data"})
    copies(opener, primary, *[None] * secondaries)
    commit(primary, {0: b"more"})
    assert metric(primary, "zrs_commits_total", role="primary") == 4
    # Sent bytes are counted for each secondary.
    wait_until(lambda: primary.status()["transactions"] == 4 * secondaries)
    assert metric(primary, "zrs_transactions_total", role="primary") == 4 * secondaries


def test_earlier_and_aborted_transactions_are_not_counted(opener: Opener) -> None:
    first = opener.primary()
    commit(first, {0: b"data"})
    first.close()
    primary = opener.primary()
    aborted = TransactionMetaData()
    primary.tpc_begin(aborted)
    primary.tpc_abort(aborted)
    with pytest.raises(StorageTransactionError):
        primary.tpc_finish(aborted)
    assert primary.status()["commits"] == 0


def test_a_cascade_counts_what_it_passes_on(opener: Opener) -> None:
    first = opener.primary()
    middle = Primary(str(opener.directory / "middle.fs"), LOOPBACK)
    cascade = opener.closing(Secondary(middle, first.address, status_address=LOOPBACK))
    for n in range(3):
        commit(first, {n: b"data"})
    wait_caught_up(first, cascade)
    wait_until(lambda: metric(cascade, "zrs_commits_total", role="primary") == 3)
    assert metric(cascade, "zrs_file_bytes") == cascade.getSize()
    assert metric(cascade, "zrs_state", role="primary", state="listening") == 1


def test_the_version(opener: Opener) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    version = importlib.metadata.version("zrs")
    assert metric(primary, "zrs_build_info", version=version) == 1


def test_the_state_is_one_of_all_states(opener: Opener) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    (secondary,) = [opener.secondary(primary, status_address=LOOPBACK)]
    wait_until(lambda: secondary.status()["state"] == "following")
    states: list[tuple[Any, Role, str]] = [
        (primary, "primary", "listening"),
        (secondary, "secondary", "following"),
    ]
    for storage, role, state in states:
        values = {
            dict(labels)["state"]: value
            for (name, labels), value in metrics(storage).items()
            if name == "zrs_state"
        }
        assert set(values) == set(STATES[role])
        assert values == {one: float(one == state) for one in values}


def test_the_size_of_the_file(opener: Opener) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    commit(primary, {0: b"x" * 1000})
    assert metric(primary, "zrs_file_bytes") == opener.path.stat().st_size > 1000
    assert primary.status()["file_bytes"] == opener.path.stat().st_size
    primary.close()
    assert primary.status()["state"] == "stopped"


# --- Blobs --------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Make a blob directory with three blobs, a temporary file and a link."""
    top = tmp_path / "blobs"
    for n, name in enumerate(["0x00/0x01/0x1.blob", "0x00/0x02/0x1.blob", "0x01/0x2.blob"]):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10 * (n + 1))
    (top / "tmp").mkdir()
    (top / "tmp" / "unfinished.blob").write_bytes(b"x")
    (top / ".layout").write_text("bushy")
    (top / "link").symlink_to(top)
    return top


def test_blobs_are_counted_in_the_background(directory: Path) -> None:
    with contextlib.closing(BlobCount(str(directory))) as count:
        last: Any = wait_until(lambda: count.last)
    assert (last.files, last.bytes) == (3, 60)
    with contextlib.closing(BlobCount(str(directory / "nowhere"))) as count:
        last = wait_until(lambda: count.last)
    assert (last.files, last.bytes) == (0, 0)


def test_counting_sleeps_most_of_the_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_count, "WORK_SECONDS", 0.0)
    rests: list[float] = []

    class Rests:
        def is_set(self) -> bool:
            return len(rests) > 100

        def wait(self, seconds: float) -> bool:
            rests.append(seconds)
            return seconds == blob_count.PAUSE or len(rests) > 100

        set = is_set

    fake = SimpleNamespace(Event=Rests, Thread=threading.Thread)
    monkeypatch.setattr(blob_count, "threading", fake)
    with contextlib.closing(BlobCount(str(directory))) as count:
        wait_until(lambda: len(rests) > 100)
        assert count.last is not None
    # It sleeps after each directory entry, and after each count.
    assert len(rests[: rests.index(blob_count.PAUSE)]) > 5


def test_metrics_of_blobs_come_only_from_the_count(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = opener.directory / "blobs"
    storage = FileStorage(str(opener.path), blob_dir=str(blobs))
    (blobs / "0x00").mkdir()
    (blobs / "0x00" / "0x1.blob").write_bytes(b"x" * 10)
    primary = opener.primary(storage, status_address=LOOPBACK)
    wait_until(lambda: primary.status()["blob_files"])
    # A scrape does not walk directories.
    scanned: list[Any] = []
    monkeypatch.setattr(os, "scandir", scanned.append)
    (blobs / "0x00" / "0x2.blob").write_bytes(b"x" * 10)
    assert metric(primary, "zrs_blobs") == 1
    assert metric(primary, "zrs_blob_bytes") == 10
    counted = metric(primary, "zrs_blobs_counted_timestamp_seconds")
    files = primary.status()["blob_files"]
    assert files is not None
    assert counted == files["time"]
    assert scanned == []


def test_shared_blobs_are_not_counted(opener: Opener) -> None:
    storage = FileStorage(str(opener.path), blob_dir=str(opener.directory / "blobs"))
    primary = opener.primary(storage, status_address=LOOPBACK, blobs="none")
    assert "blob_files" not in primary.status()


# --- Peers --------------------------------------------------------------------------


def test_peers_are_labelled_by_host_and_do_not_collide(opener: Opener) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    commit(primary, {0: b"data"})
    first, second = copies(opener, primary, None, None)
    assert peers(primary) == {"127.0.0.1", "127.0.0.1 #2"}
    # Reconnections reuse the same labels, and the other connection keeps its own.
    for again, other in (first, "127.0.0.1 #2"), (second, "127.0.0.1"):
        again.close()
        wait_until(lambda: primary.status()["connections"] == 1)
        assert peers(primary) == {other}
        opener.secondary(primary, str(again.getName()))
        wait_until(lambda: primary.status()["connections"] == 2)
        assert peers(primary) == {"127.0.0.1", "127.0.0.1 #2"}
    assert {peer["host"] for peer in primary.status()["peers"]} == {"127.0.0.1"}


def test_a_secondary_may_give_itself_a_name(opener: Opener) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    # Its primary is idle.
    named = opener.secondary(primary, node_name="backup-1.example")
    wait_until(lambda: peers(primary) == {"backup-1.example"})
    (peer,) = primary.status()["peers"]
    assert (peer["name"], peer["label"], peer["host"]) == (
        "backup-1.example", "backup-1.example", "127.0.0.1",
    )  # fmt: skip
    assert peer["peer"].startswith("IPv4Address(TCP, '127.0.0.1', ")
    events = [event["text"] for event in asked(primary, "/history")["events"]]
    assert not [text for text in events if text.endswith(" disconnected")]
    # After a reconnection it is still named, and acknowledges as before.
    named.close()
    wait_until(lambda: not primary.status()["peers"])
    copy = opener.secondary(primary, node_name="backup-1.example")
    tid = commit(primary, {0: b"data"})
    wait_caught_up(primary, copy)
    wait_until(lambda: peers(primary) == {"backup-1.example"})
    durable = f"0x{tid.hex()}"
    wait_until(lambda: primary.status()["peers"][0]["durable_tid"] == durable)
    (lags,) = asked(primary, "/history")["samples"][-1:]
    assert set(lags[3]) <= {"backup-1.example", "127.0.0.1"}


def test_two_secondaries_with_the_same_name(opener: Opener) -> None:
    primary = opener.primary(status_address=LOOPBACK)
    copies(opener, primary, "same", "same", "other")
    wait_until(lambda: peers(primary) == {"same", "same #2", "other"})


def test_a_primary_without_capabilities_receives_no_name(opener: Opener) -> None:
    # zc.zrs is such a primary: an unknown message would end the connection.
    with socket.create_server(LOOPBACK) as server:
        secondary = opener.secondary(server.getsockname(), node_name="backup")
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            received = b""
            while len(received) < 10 + 12 + 16 * 4:
                received += connection.recv(1 << 10)
            secondary.close()
            while piece := connection.recv(1 << 10):
                received += piece
    assert received[10 + 12 :] == bytes(16 * 4)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 65])
def test_an_invalid_name(opener: Opener, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a node"):
        opener.secondary(LOOPBACK, node_name=name)
    lines = (
        f"<secondary>\naddress :1\nnode-name {name or '.,'}\nfilestorage-path x\n</secondary>"
    )
    with pytest.raises(ZConfig.DataConversionError, match="is not a name of 1 to 64 letters"):
        load(lines)


def test_a_name_belongs_to_a_secondary(tmp_path: Path) -> None:
    lines = (
        f"<zrs>\nreplicate-to 127.0.0.1:0\nnode-name x\nfilestorage-path {tmp_path}/f\n</zrs>"
    )
    with pytest.raises(ZConfig.ConfigurationError, match="node-name"):
        load(lines)
    with pytest.raises(ValueError, match="node_name"):
        Secondary(str(tmp_path / "Data.fs"), LOOPBACK, object(), node_name="x")


@pytest.mark.parametrize(
    "section",
    ["<secondary>\naddress {}\n{}\n</secondary>", "<zrs>\nreplicate-from {}\n{}\n</zrs>"],
)
def test_a_name_in_a_configuration(opener: Opener, section: str) -> None:
    primary: Any = opener.primary(status_address=LOOPBACK)
    where = show_address(primary.address)
    options = f"node-name copy\nfilestorage-path {opener.copy}"
    opener.closing(load(section.format(where, options)).open())
    wait_until(lambda: peers(primary) == {"copy"})
    assert "└ copy " in zrs("status", show_address(primary.status_address)).stdout


def test_labels_of_connections_without_a_label() -> None:
    # With a reactor the label is unknown.
    found: list[PeerStatus] = [
        {"peer": f"IPv{kind}Address(TCP, '{host}', {port})", "state": "streaming"}
        for kind, host, port in [(4, "10.0.0.1", 1), (4, "10.0.0.1", 2), (6, "::1", 3)]
    ]
    found.append({"peer": "UNIXAddress('/run/zrs')", "state": "streaming"})
    assert peer_labels(found) == ["10.0.0.1", "10.0.0.1 #2", "::1", "/run/zrs"]
    assert peer_names(found) == ["10.0.0.1:1", "10.0.0.1:2", "[::1]:3", "/run/zrs"]
