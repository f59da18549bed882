"""From command-line options to a concrete plan."""
