"""Smaller versions of a version, kept only if measurement says they are good enough."""
