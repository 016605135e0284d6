"""The same: the modules that are imported by name."""
