"""Data sets, OOD sets and corruptions that are computed instead of read."""
