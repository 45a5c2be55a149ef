"""Options of ZooKeeper for sections and programs, without connecting to it."""
