"""Tests of compatibility with zc.zrs: its names, its guide, and its faults, which are fixed."""
