"""The ``<ssl>`` section and the command's options for certificates."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import ZConfig
import ZODB.config

from certificates.making import Authority, encrypted
from replicas.transactions import commit
from replicas.waiting import wait_caught_up, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def section(authority: Authority, *more: str) -> str:
    certificate, key = authority.issue()
    lines = [
        f"certificate {certificate}",
        f"key {key}",
        f"authenticate {authority.path}",
        *more,
    ]
    return "\n".join(["<ssl>", *lines, "</ssl>"])


def replica(name: str, tmp_path: Path, *lines: str) -> str:
    path = f"filestorage-path {tmp_path / name}.fs"
    kind = "secondary" if name == "secondary" else "primary"
    return "\n".join([f"<{kind}>", *lines, path, f"</{kind}>"])


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def opened(stack: contextlib.ExitStack, text: str, imports: str = "%import zc.zrs") -> Any:
    schema = ZODB.config.getStorageSchema()
    config, _ = ZConfig.loadConfigFile(schema, io.StringIO(f"{imports}\n{text}"))
    return stack.enter_context(contextlib.closing(config.storage.open()))


@pytest.mark.parametrize(
    "imports",
    ["%import zc.zrs", "%import ZEO\n%import zc.zrs", "%import zc.zrs\n%import ZEO"],
)
def test_primary_and_secondary(
    tmp_path: Path, stack: contextlib.ExitStack, authority: Authority, imports: str
) -> None:
    """ZEO's component has another section with the same name."""
    text = replica("primary", tmp_path, "address 127.0.0.1:0", section(authority))
    primary = opened(stack, text, imports)
    host, port = primary.address
    text = replica("secondary", tmp_path, f"address {host}:{port}", section(authority))
    secondary = opened(stack, text, imports)
    commit(primary, {0: b"data"})
    wait_caught_up(primary, secondary)
    assert secondary.status()["tls"]


def test_zrs_has_one_section_for_both_of_its_sides(
    tmp_path: Path, stack: contextlib.ExitStack, authority: Authority
) -> None:
    text = replica("primary", tmp_path, "address 127.0.0.1:0", section(authority))
    first = opened(stack, text)
    port = first.address[1]
    middle = opened(
        stack,
        f"<zrs>\nreplicate-from 127.0.0.1:{port}\nreplicate-to 127.0.0.1:0\n"
        f"{section(authority)}\nfilestorage-path {tmp_path}/middle.fs\n</zrs>",
    )
    port = middle.status()["primary"]["address"][1]
    leaf = opened(
        stack,
        replica("secondary", tmp_path, f"address 127.0.0.1:{port}", section(authority)),
    )
    commit(first, {0: b"data"})
    wait_caught_up(first, leaf)
    assert leaf.status()["tls"]
    assert middle.status()["tls"]


def test_the_options_of_a_host_and_of_an_encrypted_key(
    tmp_path: Path, stack: contextlib.ExitStack, authority: Authority
) -> None:
    certificate, key = authority.issue("elsewhere.example")
    ours = (
        f"<ssl>\ncertificate {certificate}\nkey {encrypted(key, b'secret')}\n"
        f"authenticate {authority.path}\npassword-function certificates.making.password\n</ssl>"
    )
    primary = opened(stack, replica("primary", tmp_path, "address 127.0.0.1:0", ours))
    port = primary.address[1]
    commit(primary, {0: b"data"})
    for number, options in enumerate(
        [["check-hostname false"], ["server-hostname elsewhere.example"], []]
    ):
        lines = [
            "<secondary>",
            f"address 127.0.0.1:{port}\nreconnect-delay 0.1",
            section(authority, *options),
            f"filestorage-path {tmp_path}/{number}.fs",
            "</secondary>",
        ]
        secondary = opened(stack, "\n".join(lines))
        if options:
            wait_caught_up(primary, secondary)
        else:
            wait_until(lambda: secondary.status()["errors"])  # noqa: B023
            assert "not valid for name" in secondary.status()["last_error"]["message"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("authenticate DYNAMIC", "DYNAMIC is not supported"),
        ("authenticate SIGNED", "SIGNED is not supported"),
        ("authenticate /no/where", "/no/where"),
        ("certificate /no/where", "/no/where"),
        ("key /no/where", "/no/where"),
        ("password-function os.path.nothing", "os.path.nothing"),
        ("password-function nothing", "nothing"),
        ("check-hostname perhaps", "perhaps"),
    ],
)
def test_errors_are_reported_when_the_configuration_is_read(
    tmp_path: Path, stack: contextlib.ExitStack, line: str, named: str
) -> None:
    text = replica("primary", tmp_path, "address 127.0.0.1:0", f"<ssl>\n{line}\n</ssl>")
    with pytest.raises(ZConfig.ConfigurationError, match=named):
        opened(stack, text)
    assert list(tmp_path.iterdir()) == []


RUNZEO = """
%import zc.zrs
<zeo>
  address 127.0.0.1:0
  <ssl>
    certificate {certificate}
    key {key}
    authenticate {trusted}
  </ssl>
</zeo>
<primary 1>
  address 127.0.0.1:0
  filestorage-path {tmp}/runzeo.fs
  <ssl>
    certificate {certificate}
    key {key}
    authenticate {trusted}
  </ssl>
</primary>
"""

READ_RUNZEO = """
import sys, ZEO.runzeo
options = ZEO.runzeo.ZEOOptions()
options.realize(["-C", sys.argv[1]])
# ZEO's section is Python's, ours is our own.
assert type(options.ssl).__name__ == "SSLContext", options.ssl
primary = options.storages[0].open()
assert primary.status()["state"] == "listening"
primary.close()
"""


def test_a_zeo_server_has_its_own_ssl_section_beside_ours(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue()
    path = tmp_path / "zeo.conf"
    path.write_text(
        RUNZEO.format(certificate=certificate, key=key, trusted=authority.path, tmp=tmp_path)
    )
    done = subprocess.run(
        [sys.executable, "-c", READ_RUNZEO, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
