"""Certificates and keys, made for a test."""
