"""Tests of primaries and secondaries as storages."""
