"""Damaged databases: the layout of a file, and ways to damage it."""
