"""Techniques on networks that were trained here: channels and heads cut out, and what is left taught again."""
