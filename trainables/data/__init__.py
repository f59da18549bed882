"""Data sets: their specs, readers, synthetic sets, downloads and loaders."""
