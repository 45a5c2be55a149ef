"""The replication stream as tests see it: captures, messages, a primary that plays them."""
