"""Tests of the commands `zrs ...` and of programs in general."""
