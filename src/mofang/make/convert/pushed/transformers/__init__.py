"""Hugging Face folders, whose networks are PyTorch."""
