"""Several storages of a process that share a status address."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from prometheus_client.parser import text_string_to_metric_families

from replicas.opening import LOOPBACK
from replicas.processes import run
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until
from sections.test_config import load
from status.test_commands import zrs
from status.test_server import ask, asked
from zc.zrs.primary import Primary
from zc.zrs.status.observer import Observer
from zc.zrs.status.server import StatusAddressError
from zc.zrs.status.sharing import serve
from zc.zrs.system.address import show_address

if TYPE_CHECKING:
    from pathlib import Path

    from replicas.opening import Opener

NAMES = ["Main", "users", "blob data/ä"]


@pytest.fixture
def address() -> tuple[str, int]:
    """Return a free status address."""
    with socket.create_server(LOOPBACK) as server:
        free: tuple[str, int] = server.getsockname()
        return free


@pytest.fixture
def three(opener: Opener, address: tuple[str, int]) -> list[Any]:
    """Open three named primaries that share a status address."""
    return [
        opener.primary(
            str(opener.directory / f"{number}.fs"), status_address=address, storage_name=name
        )
        for number, name in enumerate(NAMES)
    ]


def labelled(storage: Any, path: str = "/metrics") -> dict[str, set[str | None]]:
    """Return the values of the label ``storage`` by metric."""
    status, body, _ = ask(storage, path)
    assert status == 200
    found: dict[str, set[str | None]] = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            found.setdefault(sample.name, set()).add(sample.labels.get("storage"))
    return found


def test_one_server_answers_for_all(three: list[Any], address: tuple[str, int]) -> None:
    assert {storage.status_address for storage in three} == {address}
    threads = [one for one in threading.enumerate() if one.name.startswith("zrs status")]
    assert len(threads) == 1
    answer = asked(three[0], "/status")
    assert list(answer["storages"]) == NAMES
    assert (answer["ready"], answer["reasons"]) == (True, [])
    for name, storage in zip(NAMES, three, strict=True):
        status = answer["storages"][name]
        assert (status["storage"], status["name"]) == (name, storage.getName())
        assert status["address"] == list(storage.address)
    assert asked(three[0], "/live") == {"live": True}


def test_a_storage_is_selected_by_its_name(three: list[Any]) -> None:
    assert asked(three[0], "/status?storage=users")["name"] == three[1].getName()
    assert asked(three[0], "/ready?storage=users&lag=5m") == {
        "ready": True, "reasons": [], "lag_seconds": None, "limit_seconds": 300,
    }  # fmt: skip
    last = asked(three[0], "/status?storage=blob+data%2F%C3%A4")
    assert last["name"] == three[2].getName()
    wait_until(lambda: asked(three[0], "/history?storage=users")["samples"])
    assert asked(three[0], "/history?storage=users")["status"]["storage"] == "users"
    assert set(asked(three[0], "/history")) == {"status"}
    for path in "ready", "status", "history", "metrics":
        status, body, _ = ask(three[0], f"/{path}?storage=none")
        assert (status, body) == (
            404, f"no storage 'none' at this address; available: {', '.join(NAMES)}\n",
        )  # fmt: skip
    assert ask(three[0], "/live?storage=users")[0] == 400


def test_all_must_be_ready(three: list[Any], opener: Opener, address: Any) -> None:
    nowhere = ("127.0.0.1", 1)
    opener.secondary(nowhere, status_address=address, storage_name="copy")
    status, body, _ = ask(three[0], "/ready")
    answer = json.loads(body)
    (reason,) = answer["reasons"]
    assert (status, answer["ready"]) == (503, False)
    assert reason.startswith("copy: not caught up since start")
    assert [name for name, one in answer["storages"].items() if not one["ready"]] == ["copy"]
    assert ask(three[0], "/ready?storage=users")[0] == 200
    assert ask(three[0], "/ready?storage=copy")[0] == 503


def test_the_longest_lag_is_that_of_all(opener: Opener, address: Any) -> None:
    primary = opener.primary()
    commit(primary, {0: b"data"})
    copies = [
        opener.secondary(primary, str(opener.directory / f"copy{n}.fs"), status_address=address)
        for n in range(2)
    ]
    for copy in copies:
        wait_caught_up(primary, copy)
    wait_until(lambda: asked(copies[0], "/ready")["ready"])
    primary.close()
    wait_until(lambda: len(asked(copies[0], "/ready?lag=0.2s")["reasons"]) == 2)
    answer = asked(copies[0], "/ready?lag=0.2s")
    lags = [one["lag_seconds"] for one in answer["storages"].values()]
    assert answer["lag_seconds"] == max(lags) > 0.2


def test_not_ready_while_one_is_being_opened(three: list[Any], address: Any) -> None:
    opening = serve(address)
    assert opening is not None
    status, body, _ = ask(three[0], "/ready")
    assert (status, json.loads(body)["reasons"]) == (503, ["1 storage is being opened"])
    opening.close()
    assert ask(three[0], "/ready")[0] == 200


def test_metrics_have_the_label_storage(three: list[Any]) -> None:
    found = labelled(three[0])
    assert found.pop("zrs_build_info") == {None}
    assert {name for name, storages in found.items() if storages != set(NAMES)} == set()
    only = labelled(three[0], "/metrics?storage=users")
    assert {*only.pop("zrs_build_info"), *set().union(*only.values())} == {None, "users"}


def test_with_one_storage_nothing_has_a_label(opener: Opener, address: Any) -> None:
    primary = opener.primary(status_address=address, storage_name="only")
    assert set().union(*labelled(primary).values()) == {None}
    assert asked(primary, "/status")["state"] == "listening"
    assert "storages" not in asked(primary, "/ready")
    assert {"status", "samples", "events"} == set(asked(primary, "/history"))
    assert ask(primary, "/status?storage=only")[0] == 200
    assert ask(primary, "/status?storage=other")[0] == 404


def test_the_others_go_on_when_one_is_closed(three: list[Any], address: Any) -> None:
    first, second, third = three
    first.close()
    assert list(asked(second, "/status")["storages"]) == NAMES[1:]
    third.close()
    # Series of metrics keep their labels.
    assert set(labelled(second)["zrs_is_primary"]) == {"users"}
    assert list(asked(second, "/status")["storages"]) == ["users"]
    second.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert not [one for one in threading.enumerate() if one.name.startswith("zrs status")]


def test_a_storage_that_cannot_be_opened_does_not_affect_the_others(
    three: list[Any], opener: Opener, address: Any
) -> None:
    with pytest.raises(OSError, match="in use"):
        opener.primary(addr=three[0].address, status_address=address)
    assert ask(three[0], "/ready")[0] == 200
    assert len(asked(three[0], "/status")["storages"]) == 3


def test_a_duplicate_name_gets_a_number(
    opener: Opener, address: Any, caplog: pytest.LogCaptureFixture
) -> None:
    same = [
        opener.primary(
            str(opener.directory / f"{n}.fs"), status_address=address, storage_name="x"
        )
        for n in range(3)
    ]
    assert list(asked(same[0], "/status")["storages"]) == ["x", "x #2", "x #3"]
    assert (
        f"two storages have the name 'x': {same[1].getName()} is shown as 'x #2'" in caplog.text
    )
    assert asked(same[0], "/status?storage=x+%233")["name"] == same[2].getName()


def test_the_same_address_in_another_form(opener: Opener, address: Any) -> None:
    one = opener.primary(status_address=address)
    other = opener.primary(str(opener.copy), status_address=("", address[1]))
    third = opener.primary(
        str(opener.directory / "third.fs"), status_address=("localhost", address[1])
    )
    assert one.status_address == other.status_address == third.status_address
    assert len(asked(one, "/status")["storages"]) == 3
    # Storages without names are named after their files.
    assert next(iter(asked(one, "/status")["storages"])) == one.getName()


def test_host_names_are_those_of_all_storages(opener: Opener, address: Any) -> None:
    one = opener.primary(status_address=address, status_names=["one.example"])
    assert ask(one, "/live", Host="two.example")[0] == 421
    with pytest.raises(StatusAddressError, match="not the name of a host"):
        opener.primary(str(opener.copy), status_address=address, status_names=["a/b"])
    opener.primary(str(opener.copy), status_address=address, status_names=["two.example"])
    for name in "one.example", "two.example", "localhost":
        assert ask(one, "/live", Host=name)[0] == 200
    assert ask(one, "/live", Host="three.example")[0] == 421


def test_ports_that_the_system_picks_are_not_shared(opener: Opener) -> None:
    one = opener.primary(status_address=LOOPBACK)
    other = opener.primary(str(opener.copy), status_address=LOOPBACK)
    assert one.status_address != other.status_address


def test_a_storage_that_raises_does_not_stop_observation_of_others(address: Any) -> None:
    def broken() -> NoReturn:
        raise RuntimeError("broken")

    good: Any = {
        "state": "listening",
        "address": LOOPBACK,
        "tid": None,
        "peers": [],
        "connections": 0,
    }
    served = [serve(address), serve(address)]
    observers = [
        Observer(broken, "primary", "broken"),
        Observer(good.copy, "primary", "good"),
    ]
    try:
        for one, observer in zip(served, observers, strict=True):
            assert one is not None
            one.start(observer)
        wait_until(observers[1].samples)
    finally:
        for one in served:
            assert one is not None
            one.close()


def test_sections_share_an_address(tmp_path: Path, address: Any) -> None:
    status = f"status-address {show_address(address)}"
    with contextlib.ExitStack() as stack:
        for section, path in (
            ("<zrs main>\nreplicate-to 127.0.0.1:0", "main"),
            ("<primary p>\naddress 127.0.0.1:0\nstorage-name Users", "users"),
            ("<secondary>\naddress 127.0.0.1:1", "copy"),
        ):
            kind = section[1:].split()[0].rstrip(">")
            lines = f"{section}\n{status}\nfilestorage-path {tmp_path}/{path}.fs\n</{kind}>"
            storage = stack.enter_context(contextlib.closing(load(lines).open()))
        found = asked(storage, "/status")["storages"]
    assert list(found) == ["main", "Users", f"{tmp_path}/copy.fs"]
    assert found["main"]["name"] == f"{tmp_path}/main.fs"


@pytest.mark.parametrize(
    ("section", "option"),
    [
        ("<zrs main>", "replicate-to"),
        ("<primary main>", "address"),
        ("<primary>", "replicate-to"),
        ("<zrs main>", "status-address"),
        ("<secondary copy>", "status-address"),
    ],
)
def test_the_error_for_a_port_in_use_names_the_section(
    tmp_path: Path, section: str, option: str
) -> None:
    kind = section[1:-1].split(maxsplit=1)[0]
    with socket.create_server(LOOPBACK) as other:
        taken = show_address(other.getsockname())
        lines = [section, f"{option} {taken}", f"filestorage-path {tmp_path}/Data.fs"]
        if option == "status-address":
            lines.append("replicate-to 127.0.0.1:0" if kind == "zrs" else "address 127.0.0.1:1")
        opener = load("\n".join([*lines, f"</{kind}>"]))
        with pytest.raises(OSError, match="in use") as raised:
            opener.open()
    assert raised.value.errno == errno.EADDRINUSE
    message = str(raised.value)
    assert message.startswith(f"[Errno {errno.EADDRINUSE}] {section}")
    assert f"{taken} ({option}): Address already in use" in message
    # Nothing remains open.
    opener.open().close()


def test_commands_show_each_storage(three: list[Any], opener: Opener, address: Any) -> None:
    opener.secondary(
        three[1], str(opener.directory / "copy.fs"), status_address=address, storage_name="copy"
    )
    wait_until(lambda: asked(three[0], "/ready")["ready"])
    at = show_address(address)
    done = zrs("status", at)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert [line.split("  ")[0] for line in lines[1:] if "└" not in line] == [
        f"{at} {name}" for name in [*NAMES, "copy"]
    ]
    done = zrs("status", "--json", "--storage", "copy", "--lag", "1h", at)
    (one,) = json.loads(done.stdout)
    assert (one["storage"], one["status"]["role"], one["exit_status"]) == (
        "copy",
        "secondary",
        0,
    )
    done = zrs("status", "--storage", "none", at)
    assert done.returncode == 2
    assert "no storage 'none' at this address" in done.stdout
    three[1].close()
    done = zrs("status", "--lag", "1ms", at)
    assert done.returncode == 1
    assert done.stdout.count("! behind by up to") == 1
    done = zrs("top", "--count", "2", "--interval", "0", at)
    assert done.stdout.count(f"lag of {at} copy, at most") == 2
    assert done.stdout.count(f"lag of {at} Main, at most -") == 2


def test_a_child_does_not_take_the_parents_server_for_its_own(tmp_path: Path) -> None:
    output = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        from zc.zrs.status.sharing import serve
        opener = Opener(directory)
        primary = opener.primary(status_address=LOOPBACK)
        child = os.fork()
        if child == 0:
            try:
                serve(primary.status_address)
            except OSError as error:
                os._exit(error.errno)
            os._exit(0)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        primary.close()
        """,
        tmp_path,
    )
    assert int(output) == errno.EADDRINUSE


def test_storages_that_come_and_go(tmp_path: Path, address: Any) -> None:
    # The last storage to close ends the server while another one opens.
    failures: list[BaseException] = []

    def often(number: int) -> None:
        try:
            for _ in range(10):
                with contextlib.closing(
                    Primary(str(tmp_path / f"{number}.fs"), LOOPBACK, status_address=address)
                ) as primary:
                    assert ask(primary, "/live")[0] == 200
        except BaseException as failure:  # noqa: BLE001 -- asserted below
            failures.append(failure)

    threads = [threading.Thread(target=often, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
