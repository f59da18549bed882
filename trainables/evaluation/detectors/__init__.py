"""Outlier scores that need features, gradients, weights or training images."""
