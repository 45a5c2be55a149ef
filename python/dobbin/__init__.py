"""A small object database in one append-only log that threads and processes share.

`dobbin.database` has the database, `dobbin.persistent` the objects, and `dobbin.exc` the
exceptions. A database file is as trusted as code: its objects are pickles.
"""
