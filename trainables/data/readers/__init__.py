"""Files on disk into arrays."""
