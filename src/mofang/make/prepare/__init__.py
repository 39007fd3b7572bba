"""Data in: read, clean, convert, split; what stays is a Dataset with a digest and a schema."""
