"""Changes how graphs begin and end; one module for each form of graph."""
