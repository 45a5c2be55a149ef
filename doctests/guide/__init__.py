"""Runs the guide to ZEO with ZooKeeper of 2012, unchanged, on a real ZooKeeper.

This package supplies what the guide was written for: Python 2's print statement and its
reprs, a ZooKeeper at ``zookeeper.example.com:2181`` with a node ``/databases/demo``, and
`wait_until`. Everything else is the software that the guide describes.

- `checker`: allowed differences between the guide and today's output
- `runner`: sets up the environment, runs the examples and reports the results
"""
