"""Tests of the source tree, the distribution and the examples."""
