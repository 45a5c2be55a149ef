"""Severities, and their exit statuses and colours."""

from typing import Literal

Severity = Literal["good", "warn", "bad"]

OK, WARNING, CRITICAL = 0, 1, 2
"""The exit statuses of Nagios's plugins."""

EXIT_STATUSES: dict[Severity, int] = {"good": OK, "warn": WARNING, "bad": CRITICAL}
"""The exit statuses of commands."""

COLOURS: dict[Severity, int] = {"good": 32, "warn": 33, "bad": 31}
"""The colours of lines in a terminal: green, yellow and red, as numbers of ANSI's codes."""
