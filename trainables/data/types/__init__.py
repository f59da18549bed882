"""What describes data sets: specs, splits, `Benchmark`, lazy images, checks of files; readable without torch."""
