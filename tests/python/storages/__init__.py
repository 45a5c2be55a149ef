"""Tests of what primaries and secondaries are as storages."""
