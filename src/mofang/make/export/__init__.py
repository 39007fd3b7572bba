"""A version leaves the house: as a folder with the model in some framework's form, its card, and code that asks it."""
