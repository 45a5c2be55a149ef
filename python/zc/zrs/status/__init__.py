"""Watching a replicated storage from outside: an HTTP server, metrics, a page.

`observer` looks at a storage's status and remembers the last minutes; `readiness` judges it;
`metrics` and `page` show it; `server` and `requests` serve all that. It knows of a storage
only what ``status()`` tells (docs/status.md).
"""
