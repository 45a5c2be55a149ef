"""The storages that are replicated: how they are opened, wrapped, packed and applied to."""
