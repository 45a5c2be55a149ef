"""Tests with real ZooKeeper servers, and their shared modules."""
