"""Tests of `zc.zrs.filestorage.FileStorage` that ZODB's own suites do not have."""
