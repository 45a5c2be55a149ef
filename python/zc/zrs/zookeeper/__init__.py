"""What sections and programs share about ZooKeeper, without connecting to it."""
