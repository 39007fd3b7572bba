"""What every stage stands on: nouns, engines, storage, placement, identity, audit and jobs."""
