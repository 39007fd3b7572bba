"""Models that are given as layers of weights: what a function of the user's own returns."""
