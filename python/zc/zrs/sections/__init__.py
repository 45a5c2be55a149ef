"""The sections of ZConfig that are not replication: files of keys, file storages."""
