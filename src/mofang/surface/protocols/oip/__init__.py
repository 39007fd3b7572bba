"""The Open Inference Protocol, version 2, over REST: JSON, and the binary tensor data extension."""
