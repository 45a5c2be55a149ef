"""How a secondary applies transactions to its storage, natively or through the storage."""
