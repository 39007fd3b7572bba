"""The Python client. ``mofang.Client`` is the whole of it: one attribute per stage, nouns as results."""
