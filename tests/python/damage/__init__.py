"""Damaged databases: where things are in a file, and ways to break them."""
