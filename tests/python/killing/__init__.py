"""Power cuts and killed processes: the state of a file storage afterwards."""
