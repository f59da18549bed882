"""What the terminal shows: plan preview, progress, tables."""
