"""Outlier scores, metrics, robustness, corruptions and the protocol that puts them together."""
