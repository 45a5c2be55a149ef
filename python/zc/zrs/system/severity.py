"""How bad something is, and how programs show that."""

from typing import Literal

Severity = Literal["good", "warn", "bad"]

EXIT_STATUSES: dict[Severity, int] = {"good": 0, "warn": 1, "bad": 2}
"""The exit statuses of commands, which are those of Nagios's plugins."""

COLOURS: dict[Severity, int] = {"good": 32, "warn": 33, "bad": 31}
"""The colours of lines in a terminal: green, yellow and red, as numbers of ANSI's codes."""
