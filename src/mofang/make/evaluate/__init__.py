"""How good a model is, measured on the graph that will be served, and whether that is enough."""
