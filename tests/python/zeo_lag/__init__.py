"""Tests of the programs that compare the last transactions of ZEO servers."""
