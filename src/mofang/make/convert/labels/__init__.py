"""Models of one label each, as one; one module for each form of graph."""
