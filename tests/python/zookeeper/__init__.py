"""What the tests with real ZooKeeper servers share."""
