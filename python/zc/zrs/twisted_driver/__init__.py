"""Replication on a reactor that the caller passes in, without importing Twisted."""
