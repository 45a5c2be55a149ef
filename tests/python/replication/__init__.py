"""Tests of replication: following, forks, cascades, heartbeats, clients of secondaries."""
