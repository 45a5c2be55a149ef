"""Tests of replicated blobs and of blob directories."""
