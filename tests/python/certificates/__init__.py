"""Certificates and keys for tests."""
