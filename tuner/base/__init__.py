"""What every other package may use: errors, the environment, signals, trial records, URLs."""
