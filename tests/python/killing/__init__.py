"""Power cuts and killed processes: what is left of a file storage."""
