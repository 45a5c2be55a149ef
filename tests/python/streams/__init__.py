"""Tests of replication streams; captures, messages, and a primary that replays them."""
