"""Tests of connections: addresses, admission, limits."""
