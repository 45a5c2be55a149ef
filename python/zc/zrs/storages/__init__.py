"""The storages that are replicated: opening, wrapping, packing and notifications."""
