"""Replication on a reactor that the caller passes in; Twisted is never imported here."""
