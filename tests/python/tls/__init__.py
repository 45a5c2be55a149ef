"""Tests of encrypted replication and its configuration."""
