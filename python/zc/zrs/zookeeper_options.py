"""The earlier name of `zc.zrs.zookeeper.options`: the datatype of ZooKeeper's options."""

from zc.zrs.zookeeper.options import from_section

__all__ = ["from_section"]
