"""Where state lives: the database, content-addressed blobs, append-only journals."""
