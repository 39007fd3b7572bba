"""From a dataset and a recipe to a fitted model, its curve, and the record of the run."""
