"""What the tests of replication share: commits, comparisons, a client, a bad network."""
