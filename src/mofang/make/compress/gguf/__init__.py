"""Techniques for language models in GGUF files. Imported only when one of them is taken."""
