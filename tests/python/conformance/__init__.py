"""ZODB's own storage tests, run on replicated storages."""
