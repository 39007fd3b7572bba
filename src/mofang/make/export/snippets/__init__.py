"""Code that goes out with a model, file by file: it runs where no Mofang is, and imports nothing of it.

``predict.py`` is the same for all; ``loader.py`` beside it is one of the others.
"""
