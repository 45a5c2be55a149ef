"""Watching a replicated storage from outside: an HTTP server, metrics, a page.

`observer` looks at a storage's status and remembers the last minutes; `readiness` judges it;
`metrics`, `prometheus` and `page` show it; `server` serves all that, and `requests` routes;
`client` asks such servers. It knows of a storage
only what ``status()`` tells (docs/status.md).
"""
