"""Pipelines over columns of several kinds."""
