"""Tests of dobbin."""
