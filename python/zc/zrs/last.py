"""The name that zc.zrs 3.1 has for `zc.zrs.last_transaction`."""

from zc.zrs.last_transaction import main

__all__ = ["main"]
