"""The engine `transformers`: PyTorch models of Hugging Face, many streams side by side."""
