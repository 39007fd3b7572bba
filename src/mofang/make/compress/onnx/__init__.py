"""Techniques on ONNX graphs: each takes the folder of a graph and writes a smaller or faster one into a new folder."""
