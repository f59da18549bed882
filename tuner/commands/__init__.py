"""The commands behind launch.py's options, one per module."""
