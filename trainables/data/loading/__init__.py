"""A data set by name, and batches of it."""
