"""Load a data set by name, and loaders that put its batches on the device."""
