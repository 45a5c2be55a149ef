"""Write the pages of docs/reference that the source has all of: options and metrics.

    python docs/write_reference.py

The tests look whether the pages are what this writes.
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
from zc.zrs.observe.measures import HELP

REFERENCE = Path(__file__).parent / "reference"

CONFIGURATION = """\
# ZConfig sections

`%import zc.zrs` defines these sections. Each of `<primary>`, `<secondary>` and `<zrs>` stands
wherever a storage may stand: in `<zodb>`, in the configuration of a ZEO server, and in one
another's place. `%import zc.zkzeo` defines `<zkzeoclient>`.

An address is `HOST:PORT`, `PORT`, or the path of a UNIX socket with at least one slash in it. An
option that may be given more than once says so.
"""

COMMANDS = """\
# Command line

Each command tells the same with `--help`. Exit statuses are 0 for success, 1 for problems that
were found, 2 for wrong usage and for what cannot be read, unless a command says otherwise.

`zkrunzeo` takes the options of ZEO's `runzeo`.
"""

METRICS = """\
# Metrics

What `/metrics` serves at a [status address](../status.md), in the format of Prometheus. It needs
`prometheus-client`. A name that ends in `_total` is a counter since the storage was opened; all
others are gauges. [Monitoring](../how-to/monitoring.md) has rules for alerts.

Each has the label `role`, `primary` or `secondary`, for a secondary that others replicate from is
both; only `zrs_is_primary` has not. What is about one connection of a primary has the label `peer`,
`host:port` of its other end.
"""

# Who has a metric, and which labels it has beside `role`.
WHERE = {
    "zrs_is_primary": ("both", ""),
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
}


def pages() -> dict[str, str]:
    """Return the pages' texts by their names."""
    return {
        "configuration.md": configuration(),
        "command-line.md": command_line(),
        "metrics.md": metrics(),
    }


# --- Sections ---------------------------------------------------------------------------

# The files of sections, and how the types in them are written in a configuration.
COMPONENTS = (
    ("zc.zrs", "component.xml", {"zrs.ssl": "ssl"}),
    ("zc.zrs", "zookeeper_options.xml", {}),
    ("zc.zkzeo", "component.xml", {}),
)
_NOT_WRITTEN = {"zrs.replicated"}


def configuration() -> str:
    """Return the page of all sections and their options."""
    types: dict[str, ET.Element] = {}
    parts = [CONFIGURATION]
    for package, file, names in COMPONENTS:
        text = importlib.resources.files(package).joinpath(file).read_text()
        root = ET.fromstring(text)  # noqa: S314 -- a file of ours
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
        lines += ["| option | default | |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _option(element: ET.Element) -> str:
    if element.tag not in {"key", "multikey", "section", "multisection"}:
        return ""
    if element.tag in {"section", "multisection"}:
        kind = element.attrib["type"].removeprefix("zrs.")
        name = "a storage" if kind == "ZODB.storage" else f"`<{kind}>`"
        return f"| {name} | | {_description(element)} |"
    default = element.attrib.get("default", "")
    shown = f"`{default}`" if default else "required" if _is_required(element) else ""
    text = _description(element)
    if element.tag == "multikey":
        text += " It may be given more than once."
    return f"| `{element.attrib['name']}` | {shown} | {text} |"


def _is_required(element: ET.Element) -> bool:
    return element.attrib.get("required") == "yes"


def _description(element: ET.Element) -> str:
    text = element.findtext("description") or ""
    return " ".join(text.split()).replace("|", "\\|")


# --- Commands ---------------------------------------------------------------------------

PARSERS = (
    zc.zkzeo.nagios._parser,
    zc.zrs.nagios._parser,
    zc.zrs.monitor._parser,
    zc.zrs.last_transaction._parser,
)


def parsers() -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of each command, those of `zrs` one by one."""
    yield from _subparsers(zc.zrs.command._parser())
    yield from _subparsers(dobbin.command._parser())
    for parser in PARSERS:
        yield parser()


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def command_line() -> str:
    """Return the page of all commands and their options."""
    return "\n".join([COMMANDS, *map(_command, parsers())])


def _command(parser: argparse.ArgumentParser) -> str:
    lines = [f"## `{parser.prog}`", ""]
    if parser.description:
        lines += [" ".join(parser.description.split()), ""]
    rows = [_argument(action) for action in parser._actions if action.dest != "help"]
    if rows:
        lines += ["| argument | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _argument(action: argparse.Action) -> str:
    value = _value(action)
    if action.option_strings:
        names = ", ".join(
            f"`{name}{f' {value}' if value else ''}`" for name in action.option_strings
        )
    else:
        names = f"`{value}`" + (", one or more" if action.nargs == "+" else "")
    text = " ".join((action.help or "").replace("%%", "%").split())
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
    table = ["| name | of a | further label | |", "|---|---|---|---|", *rows]
    return "\n".join([METRICS, *table, ""])


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        clean = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
        (REFERENCE / name).write_text(clean)


if __name__ == "__main__":
    main()
