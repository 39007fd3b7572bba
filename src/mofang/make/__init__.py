"""From data to a registered version: prepare, train, convert, evaluate, compress, register."""
