"""The lag of a secondary's ZEO server behind its primary's."""
