"""A small object database on one append-only log that threads and processes share.

`dobbin.database` has the database, `dobbin.persistent` the objects, `dobbin.exc` what may
be raised. A database file is as trusted as code: its objects are pickles.
"""
