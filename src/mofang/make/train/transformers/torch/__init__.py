"""Fine-tuning in PyTorch."""
