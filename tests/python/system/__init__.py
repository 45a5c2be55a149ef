"""Tests of processes, forks and sockets."""
