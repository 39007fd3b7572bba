"""Neural networks in PyTorch: their layers, how they are kept, and the loop that trains them.

``train.py`` follows a recipe. Whoever has other data or another loss calls :func:`loop.fit` with a network of
``network.py``; compression does so to teach a smaller one.
"""
