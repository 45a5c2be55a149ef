"""Write the pages of docs/reference that are generated from the source: options and metrics.

    python docs/write_reference.py

The tests check that the pages are up to date.
"""

import argparse
import importlib.resources
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import dobbin.command
import zc.zkzeo.nagios
import zc.zrs.command
import zc.zrs.last_transaction
import zc.zrs.monitor
import zc.zrs.nagios
from zc.zrs.status.metrics import ERROR_KINDS, HELP, REFUSALS
from zc.zrs.status.states import STATES

REFERENCE = Path(__file__).parent / "reference"

CONFIGURATION = """\
# ZConfig sections

`%import zc.zrs` defines these sections. You can use `<primary>`, `<secondary>` and `<zrs>`
wherever a storage section is allowed: in `<zodb>`, in the configuration of a ZEO server, and inside each
other. `%import zc.zkzeo` defines `<zkzeoclient>`. `<zookeeper>` is used at the same level as `<zeo>` in the
configuration of a server that `zkrunzeo` runs; it requires no import.

An address is `HOST:PORT`, `PORT`, or the path of a UNIX socket with at least one slash in it.
[Addresses without a host](../explanation/security.md#addresses-without-a-host) have the same meaning everywhere.
A duration is a number of seconds, or a number with a unit: `500ms`, `30s`, `5m`, `2h` or `1d`. `session-timeout` is in
milliseconds unless it has a unit. The text of an option says whether it can be repeated. An option without a default is unset by default, unless its text
says otherwise.
"""

COMMANDS = """\
# Command line

The option `--help` of each command prints the same information. Unless a command says otherwise, the exit status
is 0 for success, 1 if problems were found, and 2 for wrong usage or a file that cannot be read.

`zkrunzeo` accepts the options of ZEO's `runzeo`. `zrsmonitor-script` is zc.zrs's name for `zrsmonitor`.

[Addresses without a host](../explanation/security.md#addresses-without-a-host) have the same meaning in all commands.

A `DURATION` is a number of seconds, or a number with a unit: `500ms`, `30s`, `5m`, `2h` or `1d`.
"""

METRICS = """\
# Metrics

A [status address](../status.md) serves these metrics at `/metrics`, in the format of Prometheus. This requires
`prometheus-client`. Names that end in `_total` are counters that start when the storage is opened; all
others are gauges. [Monitoring](../how-to/monitoring.md) has alerting rules.

The metrics of a primary, a secondary and a connection have the label `role` (`primary` or `secondary`),
because a cascading secondary reports as both. The metrics of a storage, and `zrs_is_primary`, have no `role` label.

The metrics of a primary's connection have the label `peer`: the name of the secondary
(`node-name`), or its host, without the port. If another connection already has the same name or host, a
number is appended: `10.0.0.5 #2`. A connection uses the lowest free number, so reconnections do not
start new series. Without names, two secondaries on one host may swap their numbers when both reconnect.

If several storages share a status address, every metric except `zrs_build_info` has the label `storage`,
[the storage's name](../status.md#several-storages-at-one-address). With only one storage there is no such label.

The second table lists the values of the other labels; [Status](../status.md) explains them.
"""

# What a metric belongs to, and which labels it has in addition to `role`.
WHERE = {
    "zrs_build_info": ("process", "version"),
    "zrs_is_primary": ("both", ""),
    "zrs_state": ("both", "state"),
    "zrs_commits_total": ("primary", ""),
    "zrs_file_bytes": ("storage", ""),
    "zrs_blobs": ("storage", ""),
    "zrs_blob_bytes": ("storage", ""),
    "zrs_blobs_counted_timestamp_seconds": ("storage", ""),
    "zrs_lag_seconds": ("secondary, connection", ""),
    "zrs_lag_transactions": ("secondary, connection", ""),
    "zrs_lag_bytes": ("connection", ""),
    "zrs_connected_peers": ("both", ""),
    "zrs_transactions_total": ("both", ""),
    "zrs_bytes_total": ("both", ""),
    "zrs_reconnects_total": ("secondary", ""),
    "zrs_failed_attempts_total": ("secondary", ""),
    "zrs_connections_accepted_total": ("primary", ""),
    "zrs_connections_refused_total": ("primary", "reason"),
    "zrs_errors_total": ("both", "kind"),
    "zrs_last_tid_timestamp_seconds": ("both, connection", ""),
    "zrs_caught_up": ("secondary", ""),
    "zrs_diverged": ("secondary", ""),
    "zrs_missing_blobs_total": ("primary", ""),
    "zrs_unverified_histories": ("primary", ""),
    "zrs_zookeeper_connected": ("both", ""),
    "zrs_zookeeper_registered": ("primary", ""),
    "zrs_zookeeper_addresses": ("secondary", ""),
    "zrs_file_replaced": ("both", ""),
}


def pages() -> dict[str, str]:
    """Return the pages' texts by their names."""
    return {
        "configuration.md": configuration(),
        "command-line.md": command_line(),
        "metrics.md": metrics(),
    }


# --- Sections ---------------------------------------------------------------------------

# The files that define sections, and the names of their types in a configuration.
COMPONENTS = (
    ("zc.zrs", "component.xml", {"zrs.ssl": "ssl"}),
    ("zc.zrs", "zookeeper_options.xml", {}),
    ("zc.zkzeo", "component.xml", {}),
    ("zc.zkzeo", "server.xml", {}),
)
_NOT_WRITTEN = {"zrs.replicated"}


def configuration() -> str:
    """Return the page of all sections and their options."""
    types: dict[str, ET.Element] = {}
    parts = [CONFIGURATION]
    for package, file, names in COMPONENTS:
        text = importlib.resources.files(package).joinpath(file).read_text()
        root = ET.fromstring(text)  # noqa: S314 -- a file of this package
        own = {found.attrib["name"]: found for found in root.iter("sectiontype")}
        types |= own
        parts += [
            _section(names.get(name, name), section, types)
            for name, section in own.items()
            if name not in _NOT_WRITTEN
        ]
    return "\n".join(parts)


def _section(name: str, section: ET.Element, types: dict[str, ET.Element]) -> str:
    lines = [f"## `<{name}>`", "", _description(section), ""]
    extended = section.attrib.get("extends")
    elements = [*section]
    if extended in _NOT_WRITTEN:
        elements = [*types[extended], *section]
    elif extended is not None:
        lines += [f"It also has the options of `<{extended}>`.", ""]
    rows = list(filter(None, map(_option, elements)))
    if rows:
        lines += ["| option | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _option(element: ET.Element) -> str:
    if element.tag not in {"key", "multikey", "section", "multisection"}:
        return ""
    if element.tag in {"section", "multisection"}:
        kind = element.attrib["type"].removeprefix("zrs.")
        name = "a storage" if kind == "ZODB.storage" else f"`<{kind}>`"
        return f"| {name} | | {_description(element)} |"
    default = element.attrib.get("default") or (element.findtext("metadefault") or "").strip()
    shown = f"`{default}`" if default else "required" if _is_required(element) else ""
    text = _description(element)
    if element.tag == "multikey":
        text += " Can be repeated."
    return f"| `{element.attrib['name']}` | {shown} | {text} |"


def _is_required(element: ET.Element) -> bool:
    return element.attrib.get("required") == "yes"


def _description(element: ET.Element) -> str:
    text = element.findtext("description") or ""
    return " ".join(text.split()).replace("|", "\\|")


# --- Commands ---------------------------------------------------------------------------

# The groups that argparse makes.
USUAL_GROUPS = {"positional arguments", "options"}

PARSERS = (
    zc.zkzeo.nagios._parser,
    zc.zrs.nagios._parser,
    zc.zrs.monitor._parser,
    zc.zrs.last_transaction._parser,
)


def parsers() -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of each command, followed by those of its subcommands."""
    for parser in zc.zrs.command._parser(), dobbin.command._parser():
        yield parser
        yield from _subparsers(parser)
    for make in PARSERS:
        yield make()


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def command_line() -> str:
    """Return the page of all commands and their options."""
    return "\n".join([COMMANDS, *map(_command, parsers())])


def _command(parser: argparse.ArgumentParser) -> str:
    lines = [f"## `{parser.prog}`", ""]
    for text in parser.description, parser.epilog:
        if text:
            lines += [_one_line(text), ""]
    commands = [found.prog for found in _subparsers(parser)]
    if commands:
        lines += [f"Commands: {', '.join(f'`{name}`' for name in commands)}.", ""]
    for group in parser._action_groups:
        rows = [
            _argument(action)
            for action in group._group_actions
            if action.dest != "help" and not isinstance(action, argparse._SubParsersAction)
        ]
        if not rows:
            continue
        if group.title not in USUAL_GROUPS:
            lines += [_title(group), ""]
        elif lines[-2].startswith("| "):
            # One table for arguments and options.
            lines[-1:] = [*rows, ""]
            continue
        lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _title(group: argparse._ArgumentGroup) -> str:
    title = _one_line(", ".join(filter(None, (group.title, group.description))))
    return f"{title[0].upper()}{title[1:]}:"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _argument(action: argparse.Action) -> str:
    value = _value(action)
    if action.option_strings:
        names = ", ".join(
            f"`{name}{f' {value}' if value else ''}`" for name in action.option_strings
        )
    else:
        names = f"`{value}`" + (", one or more" if action.nargs == "+" else "")
    text = _one_line((action.help or "").replace("%%", "%"))
    required = "; required" if action.option_strings and action.required else ""
    return f"| {names} | {text}{required} |".replace("TID|TIME", "TID\\|TIME")


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest if not action.option_strings else action.dest.upper()


# --- Metrics ----------------------------------------------------------------------------


def metrics() -> str:
    """Return the page of all metrics."""
    rows = [
        f"| `{name}` | {WHERE[name][0]} | {WHERE[name][1]} | {text} |"
        for name, text in HELP.items()
    ]
    table = ["| name | applies to | additional label | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([METRICS, *table, "", *_labels()])


def _labels() -> list[str]:
    """Return the table of label values. Each exists from the start of the process."""
    values = [
        ("reason", "primary", REFUSALS),
        *(("kind", role, kinds) for role, kinds in ERROR_KINDS.items()),
        *(("state", role, states) for role, states in STATES.items()),
    ]
    rows = [
        f"| `{label}` | {role} | {', '.join(f'`{value}`' for value in known)} |"
        for label, role, known in values
    ]
    return ["| label | applies to | values |", "|---|---|---|", *rows, ""]


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        clean = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
        (REFERENCE / name).write_text(clean)


if __name__ == "__main__":
    main()
