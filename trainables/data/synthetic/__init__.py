"""Data sets and corruptions that are computed, not read."""
