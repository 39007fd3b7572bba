"""Where an engine runs: the replica (queue, batcher, engine) and the ways to place it."""
