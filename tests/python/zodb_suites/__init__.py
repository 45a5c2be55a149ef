"""ZODB's and ZEO's own test suites, run on `zc.zrs.filestorage.FileStorage`."""
