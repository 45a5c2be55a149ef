"""Tests against live zc.zrs processes, of 3.1 on Python 3.11 and of 2.5 on Python 2.7."""
