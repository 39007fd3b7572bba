"""The command ``mofang``: a person's way into every stage. It speaks to a server through the SDK and nothing else."""
