"""The files of a storage: their locks, their blobs, and when they are synced."""
