"""The same calls on `zc.zrs.filestorage.FileStorage` and on ZODB's, and what comes of them."""
