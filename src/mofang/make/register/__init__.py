"""Immutable, numbered, digest-addressed versions of models, and the aliases that point at them."""
