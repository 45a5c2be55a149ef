"""Tests of packs and of the lists of transactions that packs drop."""
