"""Classifiers on the vectors of an encoder."""
