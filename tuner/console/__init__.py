"""Output on the terminal: plan preview, progress of a run, tables of results."""
