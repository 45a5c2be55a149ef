"""Shared modules for tests of replication: commits, comparisons, a client, a bad network."""
