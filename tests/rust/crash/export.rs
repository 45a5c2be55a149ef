//! Crash images as files, for ZODB to open.
