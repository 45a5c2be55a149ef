"""Tests of the status: its keys, its server and page, metrics, `zrs status` and `zrs top`."""
