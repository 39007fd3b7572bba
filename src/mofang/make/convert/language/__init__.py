"""Language models of PyTorch as GGUF files."""
