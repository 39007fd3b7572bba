"""What loads networks of PyTorch."""
