"""Opens what was pushed in formats that only pushing knows, on the bench: one module for each framework."""
