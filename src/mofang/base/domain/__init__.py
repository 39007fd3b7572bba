"""The nouns of the platform, its errors and its state tables. No I/O and no third-party import beyond numpy."""
