"""ZConfig sections for certificates and file storages, and datatypes of options."""
