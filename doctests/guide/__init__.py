"""Runs the guide to ZEO with ZooKeeper of 2012, unchanged, on a real ZooKeeper.

This package supplies what the guide was written for: Python 2's print statement and its
reprs, a ZooKeeper at ``zookeeper.example.com:2181`` with a node ``/databases/demo``, and
`wait_until`. The software that the guide is about supplies all else.

- `checker`: what may differ between the guide and today's output
- `runner`: makes the world, runs the examples and tells what came out
"""
