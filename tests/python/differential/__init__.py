"""The same calls on `zc.zrs.filestorage.FileStorage` and on ZODB's, with equal results."""
