"""Sizes that an exporter wrote down where the model leaves them open."""
