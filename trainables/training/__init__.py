"""What every training method is, and its checkpoints."""
