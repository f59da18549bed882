"""Sources of outliers, and the pretrained classifiers that methods start from."""
