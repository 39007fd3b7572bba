"""Models that take texts, and count their words."""
