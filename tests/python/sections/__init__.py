"""Tests of the ZConfig sections and of database URIs."""
