"""How far a ZEO server of a secondary is behind the one of its primary."""
