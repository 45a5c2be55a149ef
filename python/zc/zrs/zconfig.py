"""The name that zc.zrs 3.1 has for `zc.zrs.config`: the datatype of ``<zrs>``."""

from zc.zrs.config import ZRSSection

__all__ = ["ZRS"]

ZRS = ZRSSection
