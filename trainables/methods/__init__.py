"""Training methods, one paper per file: plain PyTorch, one epoch at a time, exactly resumable."""
