"""``zrs demo``: replication between two processes, shown and verified."""
