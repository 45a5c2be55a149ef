"""Replication for ZODB: primary and secondary storages.

`zc.zrs.primary.Primary` and `zc.zrs.secondary.Secondary` are the storages; ZConfig files
say ``%import zc.zrs``; the command is ``zrs``.
"""
