"""Monitoring of replicated storages: an HTTP server, metrics and a page.

`observer` takes snapshots of a storage's status and keeps those of the last minutes;
`readiness` evaluates it; `metrics`, `prometheus` and `page` present it; `server` serves
everything, with routing in `requests`; `client` queries such servers. The only input is the
result of a storage's ``status()`` (docs/status.md).
"""
