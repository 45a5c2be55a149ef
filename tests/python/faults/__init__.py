"""Primaries and secondaries when everything around them fails."""
