"""Neural networks in Keras, with PyTorch below it: the networks a recipe names, and those its own function builds."""
