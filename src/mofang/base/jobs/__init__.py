"""Long work: leased, cancellable, with progress and a result."""
