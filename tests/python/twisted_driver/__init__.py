"""Tests of replication on a Twisted reactor."""
