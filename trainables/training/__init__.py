"""The interface of training methods, what classifier methods share, and checkpoints."""
